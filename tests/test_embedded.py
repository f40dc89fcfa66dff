"""The weights that ship with the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import ir_measures
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import rerank_plugins
from rerank_plugins import CrossEncoderScorer, rank
from rerank_plugins.demo.collection import read_demo
from training.candidates import BM25

FOLDER = Path(rerank_plugins.__file__).parent / "embedded"

QUERY = "how do plants make sugar from light"
PASSAGES = [
    "The stock market fell on Monday after a weak report on jobs.",
    "Photosynthesis is the process by which green plants use sunlight to make sugar.",
    "Plants need regular watering.",
    "",
    "A very long passage about leaves, light and chlorophyll. " * 60,
    "日本語のテキスト, émigré naïveté and ☃.",
]

# Questions with one passage that answers and others that share words or the subject.
ANSWERS = [
    (
        "what is the capital of france",
        "Paris is the capital and largest city of France.",
        ["Lyon is a city in France known for its food.", "Madrid is the capital of Spain."],
    ),
    (
        "how to undo the last git commit",
        "To undo the last commit but keep the changes, run git reset --soft HEAD~1.",
        ["A commit in git records changes to the repository.", "Press Ctrl-Z to undo typing."],
    ),
    (
        "what causes high blood pressure",
        "Causes of high blood pressure include too much salt, lack of exercise and stress.",
        [
            "Blood pressure is measured with a cuff on the upper arm.",
            "High tides occur twice a day.",
        ],
    ),
    (
        "python read a file line by line",
        "You can loop over an open file object in Python to read it one line at a time.",
        ["A python is a large snake that kills by constriction.", "The line at the bank was long."],
    ),
    (
        "what does photosynthesis mean",
        "Photosynthesis: the synthesis of sugars by plants with the energy of light.",
        ["A photograph is an image made by light on film.", "Protein synthesis happens in cells."],
    ),
]


@pytest.fixture(scope="module")
def scorer() -> Iterator[CrossEncoderScorer]:
    with CrossEncoderScorer("embedded", device="cpu", dtype="float32") as loaded:
        yield loaded


def test_scores_equal_those_of_transformers_and_sentence_transformers(
    scorer: CrossEncoderScorer,
) -> None:
    from sentence_transformers import CrossEncoder

    ours = scorer.score(QUERY, PASSAGES)
    model = AutoModelForSequenceClassification.from_pretrained(FOLDER, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    theirs = []
    for passage in PASSAGES:
        encoded = tokenizer(
            [QUERY], [passage], truncation="longest_first", max_length=512, return_tensors="pt"
        )
        with torch.no_grad():
            theirs.append(model(**encoded).logits[0, 0].item())
    assert ours == pytest.approx(theirs, abs=2e-5)
    reference = CrossEncoder(str(FOLDER), device="cpu", model_kwargs={"dtype": torch.float32})
    predicted = reference.predict([(QUERY, passage) for passage in PASSAGES])
    assert ours == pytest.approx(predicted.tolist(), abs=2e-5)


def test_scores_are_logits(scorer: CrossEncoderScorer) -> None:
    assert scorer.score_unit == "logit"


@pytest.mark.parametrize(("query", "answer", "others"), ANSWERS)
def test_an_answer_comes_before_what_only_shares_words(
    scorer: CrossEncoderScorer, query: str, answer: str, others: list[str]
) -> None:
    assert rank(scorer, query, [*others, answer])[0].index == len(others)


def test_an_answer_at_the_end_of_a_long_passage_counts(scorer: CrossEncoderScorer) -> None:
    filler = "The library opens at nine and closes at five on working days. " * 25
    answer = "Photosynthesis is how plants make sugar from light."
    plain, with_answer = scorer.score(QUERY, [filler, filler + answer])
    assert with_answer > plain


def test_weights_are_float16_and_small() -> None:
    path = FOLDER / "model.safetensors"
    assert path.stat().st_size < 10_000_000
    with safe_open(path, framework="pt") as tensors:
        kinds = {tensors.get_tensor(name).dtype for name in tensors.keys()}
        assert tensors.get_tensor("bert.embeddings.position_embeddings.weight").shape[0] == 512
        assert tensors.get_tensor("classifier.weight").shape == (1, 128)
    assert kinds == {torch.float16}


def test_config_says_how_to_score() -> None:
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["sentence_transformers"]["activation_fn"] == "torch.nn.modules.linear.Identity"
    assert config["id2label"] == {"0": "LABEL_0"}


def test_vocabulary_file_is_the_tokenizer_s() -> None:
    tokens = (FOLDER / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary = Tokenizer.from_file(str(FOLDER / "tokenizer.json")).get_vocab()
    assert {token: index for index, token in enumerate(tokens)} == vocabulary


@pytest.mark.slow
def test_it_reranks_the_judged_questions_about_python_better_than_bm25(
    scorer: CrossEncoderScorer,
) -> None:
    demo = read_demo()
    bm25 = BM25([passage.text for passage in demo.passages])
    found = bm25.top(bm25.queries(list(demo.queries.values())), top_k=30)
    first_stage: dict[str, dict[str, float]] = {}
    reranked: dict[str, dict[str, float]] = {}
    for (query_id, query), row in zip(demo.queries.items(), found, strict=True):
        candidates = [demo.passages[index] for index in row if index >= 0]
        ranking = rank(scorer, query, [passage.text for passage in candidates])
        first_stage[query_id] = {
            passage.id: -float(place) for place, passage in enumerate(candidates)
        }
        reranked[query_id] = {
            candidates[ranked.index].id: -float(ranked.rank) for ranked in ranking
        }
    measure = ir_measures.nDCG @ 10
    before, after = (
        ir_measures.calc_aggregate([measure], demo.qrels, run)[measure]
        for run in (first_stage, reranked)
    )
    assert after > before + 0.02
