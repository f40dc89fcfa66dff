"""What a ``tokenizer.json`` says of a BERT tokenizer, and whether `WordPieceEncoder` can follow."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WordPieceRules:
    """What `WordPieceEncoder` has to know of a BERT tokenizer."""

    vocabulary: dict[str, int]
    unknown_id: int
    max_word_chars: int
    lowercase: bool
    clean_text: bool
    added: tuple[str, ...]
    filler: str
    """A letter that no added token holds."""

    @classmethod
    def of(cls, state: dict[str, Any]) -> WordPieceRules | None:
        """Return the rules in a ``tokenizer.json``, or None where the encoder is not proven."""
        normalizer = state["normalizer"] or {}
        pre_tokenizer = state["pre_tokenizer"] or {}
        model = state["model"]
        if (
            normalizer.get("type") != "BertNormalizer"
            or pre_tokenizer.get("type") != "BertPreTokenizer"
            or model.get("type") != "WordPiece"
            or model["continuing_subword_prefix"] != "##"
            or model["unk_token"] not in model["vocab"]
        ):
            return None
        # Added tokens have to be found in the text as it stands, wherever they stand, never across
        # whitespace, and never all within a run of letters and digits.
        flags = ("single_word", "lstrip", "rstrip", "normalized")
        added = tuple(token["content"] for token in state["added_tokens"])
        fillers = set(string.ascii_lowercase).difference(*added)
        if (
            any(token[flag] for token in state["added_tokens"] for flag in flags)
            or any(content.split() != [content] or content.isalnum() for content in added)
            or not fillers
        ):
            return None
        return cls(
            vocabulary=model["vocab"],
            unknown_id=model["vocab"][model["unk_token"]],
            max_word_chars=model["max_input_chars_per_word"],
            lowercase=normalizer["lowercase"],
            clean_text=normalizer["clean_text"],
            added=added,
            filler=min(fillers),
        )
