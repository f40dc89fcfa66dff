"""Where a model's name leads, without a network: folders, the local cache, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import write_card
from model_shapes import CARDS

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER, model_folder
from rerank_plugins.errors import ModelLoadError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Write the default model into a cache folder, laid out as huggingface_hub does."""
    repository = tmp_path / "models--cross-encoder--ms-marco-TinyBERT-L2-v2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    write_card(CARDS[0], repository / "snapshots" / COMMIT)
    return tmp_path


def test_a_cached_hub_id_loads_without_a_network(cache: Path) -> None:
    with CrossEncoderScorer(
        CARDS[0].model, cache_folder=str(cache), local_files_only=True, device="cpu"
    ) as scorer:
        assert len(scorer.score("a query", ["a passage"])) == 1
        assert scorer.model == CARDS[0].model


def test_nothing_is_written_outside_the_cache_folder(cache: Path) -> None:
    before = {path for path in cache.parent.rglob("*") if cache not in path.parents}
    model_folder(CARDS[0].model, cache_folder=str(cache), local_files_only=True)
    assert {path for path in cache.parent.rglob("*") if cache not in path.parents} == before


def test_a_revision_is_looked_up(cache: Path) -> None:
    folder = model_folder(
        CARDS[0].model, revision=COMMIT, cache_folder=str(cache), local_files_only=True
    )
    assert folder.name == COMMIT
    with pytest.raises(ModelLoadError, match="revision 'v9'"):
        model_folder(CARDS[0].model, revision="v9", cache_folder=str(cache), local_files_only=True)


def test_a_model_that_is_not_cached_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"'no/such-model'.*local_files_only.*'embedded'"):
        model_folder("no/such-model", cache_folder=str(tmp_path), local_files_only=True)


def test_a_name_that_no_hub_allows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="bad name"):
        model_folder("bad name!", cache_folder=str(tmp_path), local_files_only=True)


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "some/deep/path"])
def test_a_missing_folder_is_called_a_folder(model: str) -> None:
    with pytest.raises(ModelLoadError, match="does not exist"):
        model_folder(model)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(ModelLoadError, match="is a file"):
        model_folder(str(file))


def test_embedded_is_in_the_package() -> None:
    assert model_folder("embedded") == EMBEDDED_FOLDER


def test_a_checkpoint_without_a_tokenizer_takes_the_one_its_config_names(cache: Path) -> None:
    from checkpoints import write_tokenizer

    card = next(card for card in CARDS if card.model_type == "BERT_Cat")
    folder = cache / "bert_cat"
    write_card(card, folder)
    for file in (*folder.glob("tokenizer*"), *folder.glob("vocab*")):
        file.unlink()
    with pytest.raises(ModelLoadError, match="distilbert-base-uncased"):
        CrossEncoderScorer(
            str(folder), cache_folder=str(cache), local_files_only=True, device="cpu"
        )
    repository = cache / "models--distilbert-base-uncased"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    write_tokenizer(snapshot)
    with CrossEncoderScorer(
        str(folder), cache_folder=str(cache), local_files_only=True, device="cpu"
    ) as scorer:
        assert len(scorer.score("a query", ["one", "two"])) == 2
