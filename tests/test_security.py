"""A model folder is data: nothing in it is run, imported, or written elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import pytest
from checkpoints import write_card
from model_shapes import CARDS

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import ModelLoadError, RerankError, UnsupportedModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    write_card(CARDS[0], folder)
    return folder


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_that_runs_code_is_refused(folder: Path, tmp_path: Path, archive: bool) -> None:
    import torch

    mark = tmp_path / "was run"
    (folder / "model.safetensors").unlink(missing_ok=True)
    if archive:
        torch.save({"bert.weight": Harmful(mark)}, folder / "pytorch_model.bin")
    else:
        data = pickle.dumps({"bert.weight": Harmful(mark)}, protocol=2)
        (folder / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(ModelLoadError):
        CrossEncoderScorer(str(folder), device="cpu")
    assert not mark.exists()


def test_safetensors_win_over_a_pickle_beside_them(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was run"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful(mark)))
    if not (folder / "model.safetensors").exists():
        pytest.skip("this card has no safetensors")
    with CrossEncoderScorer(str(folder), device="cpu") as scorer:
        assert len(scorer.score("why", ["a"])) == 1
    assert not mark.exists()


@pytest.mark.parametrize("name", ["evil_module.run", "os.system", "torch.nn.Tanh", "", 5])
def test_an_activation_is_a_name_and_never_an_import(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: object
) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = json.loads((folder / "config.json").read_text())
    config["sentence_transformers"] = {"activation_fn": name}
    (folder / "config.json").write_text(json.dumps(config))
    if name == "":
        CrossEncoderScorer(str(folder), device="cpu").close()  # no name is no activation named
    else:
        with pytest.raises(UnsupportedModelError, match="activation"):
            CrossEncoderScorer(str(folder), device="cpu")
    assert "evil_module" not in sys.modules


def test_code_in_the_folder_is_not_run_without_trust(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "was run"
    (folder / "modeling_evil.py").write_text(f"import os; os.mkdir({str(mark)!r})")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "evil"
    config["architectures"] = ["EvilForSequenceClassification"]
    config["auto_map"] = {
        "AutoConfig": "modeling_evil.EvilConfig",
        "AutoModelForSequenceClassification": "modeling_evil.EvilForSequenceClassification",
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RerankError):
        CrossEncoderScorer(str(folder), device="cpu")
    assert not mark.exists()


def test_loading_and_scoring_write_nothing_into_the_folder(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with CrossEncoderScorer(str(folder), device="cpu") as scorer:
        scorer.score("why", ["a", "b"])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
