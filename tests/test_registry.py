"""One scorer for the process: the same settings give the same object, and copies share it."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_card
from model_shapes import CARDS

from rerank_plugins import CrossEncoderScorer, shared_scorer
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, ModelLoadError
from rerank_plugins.registry import close_shared_scorers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tinybert")
    write_card(CARDS[0], folder)
    return folder


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    yield
    close_shared_scorers()


def test_settings_that_mean_the_same_give_the_same_object(folder: Path) -> None:
    first = shared_scorer(str(folder), device="cpu")
    assert shared_scorer(folder, device="cpu", dtype="auto", revision=None) is first  # type: ignore[arg-type]
    assert shared_scorer(str(folder), device="cpu", max_length=64) is not first


def test_one_model_loads_once_under_every_spelling(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shared_scorer(str(folder), device="cpu")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder.parent)
    assert shared_scorer(f"./{folder.name}", device=["cpu"]) is first
    assert shared_scorer(str(tmp_path / "link"), device="cpu", dtype="float32") is first
    assert shared_scorer(str(folder), device="cpu", max_length=first.max_length) is first


def test_a_relative_path_is_read_where_the_process_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    scorer = shared_scorer(folder.name, device="cpu")
    pickled = pickle.dumps(scorer)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickled) is scorer
    with pytest.raises(ModelLoadError):
        shared_scorer(f"./{folder.name}", device="cpu")


@pytest.mark.parametrize("device", [0, -1, ["cpu", 1], 1.5])
def test_a_device_that_is_no_name_is_the_callers_mistake(device: Any) -> None:
    with pytest.raises(InvalidTypeError, match="device must be a name such as 'cpu' or 'cuda:0'"):
        shared_scorer("embedded", device=device)


def test_threads_that_ask_at_once_load_one_model(folder: Path) -> None:
    found: list[CrossEncoderScorer] = []
    threads = [
        threading.Thread(target=lambda: found.append(shared_scorer(str(folder), device="cpu")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({id(scorer) for scorer in found}) == 1


def test_copies_and_pickles_share_the_model_and_hold_no_secret(folder: Path) -> None:
    scorer = shared_scorer(str(folder), device=["cpu", "cpu"], max_queued_pairs=7)
    assert copy.copy(scorer) is scorer
    assert copy.deepcopy({"scorer": [scorer]})["scorer"][0] is scorer
    assert pickle.loads(pickle.dumps(scorer)) is scorer
    secret = CrossEncoderScorer(str(folder), device="cpu", token="hf_secret")
    assert b"hf_secret" not in pickle.dumps(secret)
    assert "hf_secret" not in repr(secret)
    secret.close()


def test_a_closed_scorer_is_replaced(folder: Path) -> None:
    first = shared_scorer(str(folder), device="cpu")
    first.close()
    second = shared_scorer(str(folder), device="cpu")
    assert second is not first
    assert len(second.score("why", ["a", "b"])) == 2


def test_a_model_that_failed_to_load_can_be_asked_for_again(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ModelLoadError):
            shared_scorer(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"devise": "cpu"}, "did you mean 'device'"),
        ({"zzz": 1}, "known options"),
        ({"max_length": {"a"}}, "max_length must be a whole number"),
        ({"long_documents": ["max"]}, "long_documents must be one of"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises((InvalidTypeError, InvalidArgumentError), match=says):
        shared_scorer("embedded", **options)
