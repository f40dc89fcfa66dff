"""Which models the compiled forward pass takes, and that a scorer says which way it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_bert import random_weights

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.cross_encoder.forward.native.build import FLAGS, build, library
from rerank_plugins.cross_encoder.forward.native.choice import NEEDS, native_forward
from rerank_plugins.errors import InvalidArgumentError

EVERY_FEATURE = frozenset().union(*NEEDS.values())


def test_another_value_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_NATIVE", "yes")
    with pytest.raises(InvalidArgumentError, match=r"RERANK_NATIVE='yes'.*0, auto or avx2"):
        native_forward(random_weights(), "float32")


@pytest.mark.parametrize("path", FLAGS)
def test_a_processor_without_the_instructions_goes_the_pytorch_way(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("RERANK_NATIVE", path)
    dtype = {"amx": "bfloat16", "amx_int8": "int8"}.get(path, "float32")
    processor = EVERY_FEATURE - {sorted(NEEDS[path])[0]}
    forward, way = native_forward(random_weights(), dtype, processor=processor)
    assert forward is None
    assert way == f"PyTorch ({path}: the processor has no {sorted(NEEDS[path])[0]})"


def test_what_was_not_compiled_goes_the_pytorch_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RERANK_NATIVE", "avx512")
    weights = random_weights()
    forward, way = native_forward(weights, "float32", folder=tmp_path, processor=EVERY_FEATURE)
    assert forward is None
    assert "not compiled" in way
    library(tmp_path, "avx512").write_text("no library")
    forward, way = native_forward(weights, "float32", folder=tmp_path, processor=EVERY_FEATURE)
    assert forward is None
    assert "PyTorch (avx512: " in way


def test_a_path_that_has_no_such_dtype_goes_the_pytorch_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RERANK_NATIVE", "amx")
    assert native_forward(random_weights(), "float32") == (None, "PyTorch (amx has no float32)")


def test_without_a_compiler_building_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build(tmp_path) == dict.fromkeys(FLAGS, "there is no no-such-compiler")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_compile_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "false")
    assert set(build(tmp_path)) == set(FLAGS)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_it_is_no_faster_for_goes_the_pytorch_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RERANK_NATIVE", raising=False)
    for hidden, reason in ((416, "hidden size 416"), (48, "no multiple of 32")):
        weights = random_weights(hidden=hidden)
        forward, way = native_forward(weights, "float32", processor=EVERY_FEATURE)
        assert forward is None
        assert reason in way


def test_a_scorer_says_which_way_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_NATIVE", "0")
    with CrossEncoderScorer("embedded", device="cpu") as scorer:
        assert scorer.stats.forward == "PyTorch (RERANK_NATIVE is 0)"
        assert "forward='PyTorch (RERANK_NATIVE is 0)'" in repr(scorer)
