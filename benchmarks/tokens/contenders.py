"""Who turns texts into ids: ours cold and warm, Hugging Face's, and the peers installed here."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from rerank_plugins.cross_encoder.tokens.encoders import text_encoder

QUERY = "how does a cross encoder read a query and a passage"
PEERS = ("kitoken", "flash-tokenizer", "blingfire", "budtiktok")
BASELINE = "tokenizers encode_batch"

Ids = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """``prepare()`` is not timed and returns what is: one call over all passages.

    ``ids`` turns its answer into lists, to compare; None where it has special tokens and padding.
    """

    name: str
    prepare: Callable[[], Callable[[list[str]], Any]]
    ids: Callable[[Any], Ids] | None
    parallel: bool = False


def from_encodings(encodings: Any) -> Ids:
    return [encoding.ids for encoding in encodings]


def from_arrays(rows: Any) -> Ids:
    return [row.tolist() for row in rows]


def own_contenders(tokenizer: Tokenizer, others: list[str], texts: list[str]) -> list[Contender]:
    def first_call() -> Callable[[list[str]], Any]:
        return text_encoder(tokenizer).encode

    def after_others() -> Callable[[list[str]], Any]:
        encoder = text_encoder(tokenizer)
        encoder.encode(others)
        return encoder.encode

    def seen() -> Callable[[list[str]], Any]:
        encoder = text_encoder(tokenizer)
        encoder.encode(texts)
        return encoder.encode

    def words_seen() -> Callable[[list[str]], Any]:
        encoder = text_encoder(tokenizer, seen_passages_bytes=0)
        encoder.encode(texts)
        return encoder.encode

    return [
        Contender(name="ours, unseen, first call", prepare=first_call, ids=from_arrays),
        Contender(name="ours, unseen, after others", prepare=after_others, ids=from_arrays),
        Contender(name="ours, all words seen", prepare=words_seen, ids=from_arrays),
        Contender(name="ours, passages seen", prepare=seen, ids=from_arrays),
    ]


def hugging_face_contenders(tokenizer: Tokenizer, folder: Path) -> list[Contender]:
    whole = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def batch(texts: list[str]) -> Any:
        return tokenizer.encode_batch(texts, add_special_tokens=False)

    def batch_fast(texts: list[str]) -> Any:
        return tokenizer.encode_batch_fast(texts, add_special_tokens=False)

    def pairs(texts: list[str]) -> Any:
        """Encode as sentence-transformers does: 32 pairs, padded, as tensors."""
        for start in range(0, len(texts), 32):
            part = texts[start : start + 32]
            whole([QUERY] * len(part), part, padding=True, truncation="longest_first",
                  max_length=512, return_tensors="pt")  # fmt: skip

    contenders = []
    for parallel in (False, True):
        suffix = ", all cores" if parallel else ""
        contenders += [
            Contender(name=BASELINE + suffix, prepare=lambda: batch, ids=from_encodings,
                      parallel=parallel),
            Contender(name="tokenizers encode_batch_fast" + suffix, prepare=lambda: batch_fast,
                      ids=from_encodings, parallel=parallel),
            Contender(name="transformers pairs, padded" + suffix, prepare=lambda: pairs, ids=None,
                      parallel=parallel),
        ]  # fmt: skip
    return contenders


def peer_contenders(tokenizer: Tokenizer, scratch: Path) -> list[Contender]:
    """Return the installed ones of `PEERS`, each single-threaded and without special tokens."""
    definition, vocabulary = scratch / "tokenizer.json", scratch / "vocab.txt"
    tokenizer.save(str(definition))
    tokens = tokenizer.get_vocab()
    vocabulary.write_text("\n".join(sorted(tokens, key=tokens.__getitem__)) + "\n")
    normalizer = json.loads(tokenizer.to_str())["normalizer"]
    calls: dict[str, Callable[[list[str]], Any]] = {}
    if importlib.util.find_spec("kitoken"):
        kitoken = import_module("kitoken")
        kit = kitoken.Kitoken.from_file(str(definition))
        calls["kitoken"] = lambda texts: kit.encode_all(texts, True)
    if importlib.util.find_spec("flash_tokenizer"):
        flash_tokenizer = import_module("flash_tokenizer")
        flash = flash_tokenizer.BertTokenizerFlash(
            str(vocabulary), do_lower_case=normalizer["lowercase"], model_max_length=1_000_000
        ).tokenizer
        calls["flash-tokenizer"] = lambda texts: [
            ids[1:-1] for ids in flash.batch_encode(texts, "longest", 1_000_000, False)
        ]
    if importlib.util.find_spec("blingfire") and normalizer["lowercase"]:
        blingfire = import_module("blingfire")
        model = Path(str(blingfire.__file__)).parent / "bert_base_tok.bin"
        bling = blingfire.load_model(str(model))
        calls["blingfire"] = lambda texts: [
            blingfire.text_to_ids(bling, text, 2 * len(text) + 8, tokens["[UNK]"], True).tolist()
            for text in texts
        ]
    if importlib.util.find_spec("budtiktok"):
        budtiktok = import_module("budtiktok")
        bud = budtiktok.Tokenizer.from_file(str(definition))
        budtiktok.set_num_threads(1)
        calls["budtiktok"] = lambda texts: from_encodings(
            bud.encode_batch(texts, add_special_tokens=False)
        )
    return [
        Contender(name=name, prepare=lambda call=call: call, ids=list)  # type: ignore[misc]
        for name, call in calls.items()
    ]
