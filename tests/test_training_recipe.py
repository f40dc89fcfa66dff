"""The whole recipe for both models, offline: random teachers of a few weights, made-up text."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER
from training.lists import Lists
from training.passages import Files
from training.recipe import Recipe
from training.settings import SMOKE
from training.sources import MINILM_WHEEL, SPLADE_WHEEL

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SETTINGS = replace(
    SMOKE, sources=(), passages_per_file=1_000, runs=(16, 16), minutes=None, bare_questions=20
)
THINGS = ("river", "engine", "violin", "castle", "planet", "harbour", "orchard", "glacier")
TRAITS = ("old", "quiet", "northern", "small", "famous", "green", "heavy", "distant")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder where what the recipe would download lies already."""
    work = tmp_path_factory.mktemp("work")
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    torch.manual_seed(0)
    for wheel, architecture in ((MINILM_WHEEL, BertModel), (SPLADE_WHEEL, BertForMaskedLM)):
        folder = work / "models" / wheel[2]
        folder.mkdir(parents=True)
        architecture(BertConfig.from_dict(sizes)).save_pretrained(folder)
        shutil.copy(EMBEDDED_FOLDER / "tokenizer.json", folder)
    return work


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder, rng = tmp_path_factory.mktemp("files"), random.Random(0)

    def passage(number: int) -> str:
        words = [f"{rng.choice(TRAITS)} {rng.choice(THINGS)}" for _ in range(20)]
        return f"Number {number} is about the {' and the '.join(words)}."

    rows = {
        "pairs": [
            {"query": f"the {THINGS[n % 8]} of number {n}", "passage": passage(n)}
            for n in range(320)
        ],
        "passages": [{"passage": passage(n), "source": "s"} for n in range(400, 440)],
        "questions": [{"query": f"which {thing} is {TRAITS[0]}"} for thing in THINGS],
    }
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
    return Files(*((folder / f"{name}.jsonl",) for name in rows))


@pytest.mark.parametrize("student", ["embedded", "embedded-l6"])
def test_the_recipe_makes_a_model_that_the_scorer_loads(
    student: str, work: Path, files: Files
) -> None:
    outcome = Recipe(SETTINGS, work=work, student=student, files=files).run()
    assert set(outcome.final) >= {"RR@10"}
    with CrossEncoderScorer(str(outcome.model), device="cpu") as scorer:
        scores = scorer.score("a quiet river", ["A quiet river in the north.", "Nothing."])
    assert len(set(scores)) == 2
    recorded = json.loads((work / "smoke" / f"run_{student}.json").read_text("utf-8"))
    assert (recorded["lists"], recorded["device"]) == (32, "cpu")
    assert sorted(recorded["files"]) == ["pairs.jsonl", "passages.jsonl", "questions.jsonl"]


def test_a_model_made_before_teaches_the_next(work: Path, files: Files) -> None:
    taught = Recipe(
        SETTINGS, work=work, student="embedded", files=files, teacher=str(EMBEDDED_FOLDER)
    )
    alone = Recipe(SETTINGS, work=work, student="embedded", files=files)
    passages = alone.passages()
    queries = alone.queries(passages)
    alone.encode(passages, queries)
    alone.lists(passages, queries)
    lists = Lists.load(work / "smoke" / "lists_embedded.npz")
    mixed = taught.taught(lists, passages, queries)
    assert alone.taught(lists, passages, queries) is lists
    share = taught.student.taught_share
    with CrossEncoderScorer("embedded", device="cpu", max_length=192) as scorer:
        row = [passages[int(candidate)].text for candidate in lists.candidates[0]]
        scores = torch.tensor(scorer.score(queries[int(lists.query[0])].text, row))
    expected = (1 - share) * torch.from_numpy(lists.targets[0]) + share * (scores - scores.mean())
    # The teacher scores in bfloat16.
    assert torch.allclose(torch.from_numpy(mixed.targets[0]), expected.float(), atol=0.15)
