"""Where a tokenizer puts special tokens around a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rerank_plugins.cross_encoder.pairs import TokenIds
from rerank_plugins.errors import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """Where a tokenizer puts special tokens around a pair: ``prefix query middle passage suffix``.

    BERT: ``[CLS] query [SEP] passage [SEP]``, type 0 up to the first ``[SEP]``, then 1.
    """

    prefix: TokenIds
    middle: TokenIds
    suffix: TokenIds
    query_type: int
    passage_type: int

    @property
    def n_special(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> PairTemplate:
        """Read the template off one encoded pair."""
        encoding = tokenizer(
            "a", "b"
        )  # with token types only where it says that the model reads them
        ids = np.asarray(encoding["input_ids"], np.int32)
        types = encoding.get("token_type_ids") or [0] * len(ids)
        owners = encoding.sequence_ids(0)
        query = [index for index, owner in enumerate(owners) if owner == 0]
        passage = [index for index, owner in enumerate(owners) if owner == 1]
        if not query or not passage or query[-1] > passage[0]:
            raise UnsupportedModelError(
                f"{type(tokenizer).__name__} does not put the query before the passage; "
                "score this model with sentence-transformers"
            )
        tail = passage[0]
        if len(set(types[:tail])) > 1 or len(set(types[tail:])) > 1:
            raise UnsupportedModelError(
                f"{type(tokenizer).__name__} gives token types {types} to a pair, where one type "
                "up to the passage and one from there on was expected; "
                "score this model with sentence-transformers"
            )
        return cls(
            prefix=ids[: query[0]],
            middle=ids[query[-1] + 1 : tail],
            suffix=ids[passage[-1] + 1 :],
            query_type=types[0],
            passage_type=types[tail],
        )
