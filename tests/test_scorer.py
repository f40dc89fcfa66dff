"""The scorer against sentence-transformers, and its contract."""

from __future__ import annotations

import json
import pickle
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from checkpoints import WORDS, write_card
from hypothesis import given, settings
from hypothesis import strategies as st
from model_shapes import CARDS

from rerank_plugins import CrossEncoderScorer, Scorer, rank, shared_scorer
from rerank_plugins.errors import (
    DeviceError,
    InvalidArgumentError,
    InvalidTypeError,
    ScorerClosedError,
    ScoringError,
)
from rerank_plugins.models import EMBEDDED_MODEL

QUERY = "how do I sort a list?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tinybert")
    write_card(CARDS[0], folder)
    return str(folder)


@pytest.fixture(scope="module")
def scorer(folder: str) -> Iterator[CrossEncoderScorer]:
    with CrossEncoderScorer(folder, device="cpu") as scorer:
        yield scorer


@pytest.fixture(scope="module")
def peer(folder: str) -> Any:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(folder, device="cpu")


def passages(count: int, *, most: int = 120) -> list[str]:
    generator = random.Random(count)
    return [" ".join(generator.choices(WORDS, k=generator.randint(0, most))) for _ in range(count)]


def test_scores_equal_sentence_transformers_on_mixed_lengths(
    scorer: CrossEncoderScorer, peer: Any
) -> None:
    texts = [*passages(60), *passages(5, most=900), ""]
    expected = peer.predict([(QUERY, text) for text in texts], show_progress_bar=False)
    assert scorer.score(QUERY, texts) == pytest.approx(expected.tolist(), abs=2e-5)


@settings(max_examples=40, deadline=None)
@given(query=st.text(max_size=40), texts=st.lists(st.text(max_size=80), min_size=1, max_size=4))
def test_scores_equal_sentence_transformers_on_arbitrary_unicode(
    scorer: CrossEncoderScorer, peer: Any, query: str, texts: list[str]
) -> None:
    expected = peer.predict([(query, text) for text in texts], show_progress_bar=False)
    assert scorer.score(query, texts) == pytest.approx(expected.tolist(), abs=2e-5)


@pytest.mark.parametrize("model_type", ["electra", "BERT_Cat"])
def test_none_one_and_many_take_one_path(model_type: str, tmp_path: Path) -> None:
    write_card(next(card for card in CARDS if card.model_type == model_type), tmp_path)
    with CrossEncoderScorer(str(tmp_path), device="cpu") as scorer:
        texts = passages(30)
        alone = [scorer.score(QUERY, [text])[0] for text in texts]
        assert scorer.score(QUERY, texts) == pytest.approx(alone, abs=1e-5)
        assert scorer.score(QUERY, []) == []


def test_score_pairs_keeps_the_order_given(scorer: CrossEncoderScorer) -> None:
    texts = passages(20)
    pairs = [(query, text) for text in texts for query in (QUERY, "read a file")]
    one_by_one = [scorer.score(query, [text])[0] for query, text in pairs]
    assert scorer.score_pairs(pairs) == pytest.approx(one_by_one, abs=1e-5)
    assert scorer.score_pairs([]) == []


def test_scores_are_python_floats(scorer: CrossEncoderScorer) -> None:
    assert {type(score) for score in scorer.score(QUERY, passages(3))} == {float}


def test_identical_pairs_tie_exactly(scorer: CrossEncoderScorer) -> None:
    texts = passages(40) + ["the same passage"] * 5 + passages(33)
    assert len({scorer.score(QUERY, texts)[index] for index in range(40, 45)}) == 1
    order = [
        row.index for row in rank(scorer, QUERY, texts) if texts[row.index].startswith("the s")
    ]
    assert order == [40, 41, 42, 43, 44]


async def test_ascore_returns_what_score_returns(scorer: CrossEncoderScorer) -> None:
    texts = passages(25)
    assert await scorer.ascore(QUERY, texts) == pytest.approx(scorer.score(QUERY, texts), abs=1e-5)


def test_it_is_a_scorer(scorer: CrossEncoderScorer, folder: str) -> None:
    assert isinstance(scorer, Scorer)
    assert scorer.model == folder
    assert scorer.score_unit == "logit"


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_smaller_dtypes_stay_near(dtype: str, folder: str, scorer: CrossEncoderScorer) -> None:
    texts = passages(40)
    with CrossEncoderScorer(folder, device="cpu", dtype=dtype) as smaller:
        exact, near = np.array(scorer.score(QUERY, texts)), np.array(smaller.score(QUERY, texts))
    assert np.corrcoef(exact, near)[0, 1] > 0.99


def test_several_devices_score_as_one(folder: str, scorer: CrossEncoderScorer) -> None:
    texts = passages(200)
    with CrossEncoderScorer(folder, device=["cpu", "cpu"], max_batch_tokens=512) as double:
        assert double.score(QUERY, texts) == pytest.approx(scorer.score(QUERY, texts), abs=1e-5)
        assert double.device == "cpu, cpu"


def test_a_smaller_max_length_holds_for_one_call(folder: str, scorer: CrossEncoderScorer) -> None:
    texts = passages(20)
    with CrossEncoderScorer(folder, device="cpu", max_length=24) as short:
        expected = short.score(QUERY, texts)
    assert scorer.score(QUERY, texts, max_length=24) == pytest.approx(expected, abs=1e-5)
    assert scorer.score(QUERY, texts) != pytest.approx(expected, abs=1e-5)


def test_prefixes_go_before_what_the_model_reads(folder: str, scorer: CrossEncoderScorer) -> None:
    texts = passages(20)
    prefixes = {"query_prefix": "read: ", "passage_prefix": "of the file "}
    with CrossEncoderScorer(folder, device="cpu", **prefixes) as prefixed:  # type: ignore[arg-type]
        expected = scorer.score("read: " + QUERY, ["of the file " + text for text in texts])
        assert prefixed.score(QUERY, texts) == pytest.approx(expected, abs=1e-5)
        assert prefixed.score_pairs([(QUERY, texts[0])]) == pytest.approx(expected[:1], abs=1e-5)
        long = ["a " * n for n in range(470, 520)]
        cut = scorer.truncated("read: " + QUERY, ["of the file " + text for text in long])
        assert prefixed.truncated(QUERY, long) == cut
        assert scorer.truncated(QUERY, long) != cut
        copy = pickle.loads(pickle.dumps(prefixed))
        assert (copy.options.query_prefix, copy.options.passage_prefix) == tuple(prefixes.values())
        copy.close()


def test_windows_of_a_prefixed_passage_are_of_the_passage_given(folder: str) -> None:
    options: dict[str, Any] = {"device": "cpu", "max_length": 32, "long_documents": "max"}
    texts = ["a", *passages(3, most=200)]
    with (
        CrossEncoderScorer(folder, **options) as plain,
        CrossEncoderScorer(folder, **options, passage_prefix="file ") as prefixed,
    ):
        expected = plain.best_windows(QUERY, ["file " + text for text in texts])
        spans = [(max(0, start - 5), max(0, end - 5)) for _, start, end in expected]
        assert [tuple(found[1:]) for found in prefixed.best_windows(QUERY, texts)] == spans


def test_windows_score_a_passage_by_its_best_part(folder: str) -> None:
    texts = passages(6, most=300)
    with CrossEncoderScorer(folder, device="cpu", max_length=64, long_documents="max") as scorer:
        for window, text in zip(scorer.best_windows(QUERY, texts), texts, strict=True):
            alone = scorer.score(QUERY, [text[window.start : window.end]])[0]
            assert window.score == pytest.approx(alone, abs=1e-5)
            assert window.score == pytest.approx(scorer.score(QUERY, [text])[0], abs=1e-5)


def test_truncation_is_told(scorer: CrossEncoderScorer) -> None:
    before = scorer.stats.truncated
    texts = ["short", "word " * 600]
    assert scorer.truncated(QUERY, texts) == [False, True]
    scorer.score(QUERY, texts)
    assert scorer.stats.truncated == before + 1


def test_a_text_that_the_tokenizer_refuses_is_one_error_everywhere(tmp_path: Path) -> None:
    write_card(CARDS[0], tmp_path)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    scores = [(piece, -float(index)) for index, piece in enumerate(pieces)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(scores, None, False))
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with CrossEncoderScorer(str(tmp_path), device="cpu") as scorer:
        for asked in (scorer.score, scorer.truncated, scorer.best_windows):
            assert len(asked("a", ["b"])) == 1
            with pytest.raises(ScoringError, match="could not be tokenised"):
                asked("a", ["a z"])


def test_the_registry_gives_one_object_for_the_same_settings(folder: str) -> None:
    first = shared_scorer(folder, device="cpu")
    assert shared_scorer(folder, device="cpu", dtype="auto") is first
    assert shared_scorer(folder, device="cpu", max_length=64) is not first
    first.close()
    assert shared_scorer(folder, device="cpu") is not first


def test_it_pickles_as_configuration(folder: str) -> None:
    scorer = shared_scorer(folder, device="cpu")
    data = pickle.dumps(scorer)
    assert len(data) < 2_000
    assert pickle.loads(data) is scorer


def test_the_embedded_model_pickles_to_itself() -> None:
    scorer = shared_scorer(EMBEDDED_MODEL, device="cpu")
    assert pickle.loads(pickle.dumps(scorer)) is scorer


def test_a_closed_scorer_says_so(folder: str) -> None:
    scorer = CrossEncoderScorer(folder, device="cpu")
    scorer.warmup()
    scorer.close()
    scorer.close()
    with pytest.raises(ScorerClosedError, match="is closed"):
        scorer.score(QUERY, ["a"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "tpu:0"}, DeviceError, r"'tpu:0'.*here there is cpu"),
        ({"device": "cuda:99"}, DeviceError, r"'cuda:99' does not exist"),
        ({"device": "no such"}, DeviceError, r"'no such'"),
        ({"device": []}, InvalidArgumentError, r"empty list"),
        ({"dtype": "float8"}, InvalidArgumentError, r"float8"),
        ({"dtype": "float16"}, InvalidArgumentError, r"bfloat16"),
        ({"max_length": 513}, InvalidArgumentError, r"max_length=513.*512"),
        ({"max_length": 4}, InvalidArgumentError, r"at least 5"),
        ({"max_length": 0}, InvalidArgumentError, r"max_length must be at least 1"),
        ({"max_batch_tokens": 0}, InvalidArgumentError, r"max_batch_tokens"),
        ({"long_documents": "split"}, InvalidArgumentError, r"truncate, max; got 'split'"),
        ({"batch_size": 32}, TypeError, r"batch_size"),
    ],
)
def test_an_unusable_argument_is_named(
    folder: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CrossEncoderScorer(folder, **{"device": "cpu", **arguments})


def test_an_unknown_option_of_the_registry_is_named_with_the_nearest(folder: str) -> None:
    with pytest.raises(TypeError, match=r"'max_lenght'; did you mean 'max_length'"):
        shared_scorer(folder, max_lenght=128)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("query", "texts", "message"),
    [
        ("q", "a passage", r"passages must be a list of strings, got 'a passage'"),
        ("q", ["a", None], r"passages\[1\] must be a string, got None"),
        ("q", None, r"passages must be a list"),
        (None, ["a"], r"query must be a string, got None"),
    ],
)
def test_unusable_texts_are_named(
    scorer: CrossEncoderScorer, query: Any, texts: Any, message: str
) -> None:
    with pytest.raises(InvalidTypeError, match=message):
        scorer.score(query, texts)


def test_pairs_of_another_shape_are_named(scorer: CrossEncoderScorer) -> None:
    with pytest.raises(InvalidTypeError, match=r"pairs\[1\] must be \(query, passage\)"):
        scorer.score_pairs([("q", "p"), "ab"])  # type: ignore[list-item]


def test_a_long_word_and_a_long_query_are_no_special_case(
    scorer: CrossEncoderScorer, peer: Any
) -> None:
    query = " ".join(WORDS * 20)
    texts = ["x" * 5_000, string.punctuation * 30]
    expected = peer.predict([(query, text) for text in texts], show_progress_bar=False)
    assert scorer.score(query, texts) == pytest.approx(expected.tolist(), abs=2e-5)
