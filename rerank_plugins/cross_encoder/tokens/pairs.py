"""Query ids and passage ids in, whole pairs out: truncation, windows, packing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tokenizers

from rerank_plugins.cross_encoder.pairs import Int64Array, PackedPairs, TokenIds
from rerank_plugins.cross_encoder.tokens.template import PairTemplate
from rerank_plugins.cross_encoder.tokens.texts import LONG_TEXT_CHARS
from rerank_plugins.errors import InvalidArgumentError

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder.tokens.encoders import TextEncoder

# Neighbouring windows of a long passage share this part of their tokens, so that a sentence cut
# by the end of one stands whole in the next.
WINDOW_OVERLAP = 0.25


@dataclass(slots=True)
class Sequences:
    """What the model will read for some pairs: one sequence a pair, or one a window of it.

    ``prefixes[i]`` are the ids before the passage's own, ``passage_ids[i]`` those of the passage,
    ``lengths[i]`` the length with all special tokens, ``pair_index[i]`` the pair it belongs to
    (ascending), ``starts[i]`` the offset of its first passage token. ``truncated`` is one flag a
    pair.
    """

    prefixes: list[TokenIds]
    passage_ids: list[TokenIds]
    lengths: Int64Array
    pair_index: Int64Array
    starts: Int64Array
    truncated: npt.NDArray[np.bool_]


def longest_first(n_query: int, n_passage: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each are kept in ``room``, as transformers' ``longest_first`` does.

    The longer text gives way first, so a passage never costs a query of up to half the room a
    token; where both are longer than half, they share it.

    >>> longest_first(8, 600, 509), longest_first(400, 600, 509)
    ((8, 501), (254, 255))
    """
    if n_query + n_passage <= room:
        return n_query, n_passage
    shorter = min(n_query, n_passage)
    if 2 * shorter <= room:
        longer = room - shorter
    else:
        shorter = room // 2
        longer = room - shorter
    return (longer, shorter) if n_query > n_passage else (shorter, longer)


class PairEncoder:
    """Turns texts into `Sequences` and these into `PackedPairs`."""

    def __init__(
        self,
        texts: TextEncoder,
        template: PairTemplate,
        tokenizer_json: str,
        *,
        query_prompt: str = "",
    ) -> None:
        """``query_prompt`` goes before every query, as the model was trained."""
        self._query_prompt = query_prompt
        self._texts = texts
        self._template = template
        self._tokenizer_json = tokenizer_json

    def check_max_length(self, max_length: int) -> None:
        """Raise `InvalidArgumentError` unless a query token and a passage token would fit."""
        needed = self._template.n_special + 2
        if max_length < needed:
            raise InvalidArgumentError(
                f"max_length must be at least {needed} tokens ({self._template.n_special} special "
                f"ones, one of the query, one of the passage), got {max_length}"
            )

    def sequences(
        self,
        queries: Sequence[str],
        passages: Sequence[str],
        *,
        max_length: int | Int64Array,
        windows: bool,
    ) -> Sequences:
        """Return the sequences of ``zip(queries, passages)``, none longer than ``max_length``.

        ``max_length`` is in tokens, one for all pairs or one a pair (n_pairs,).
        """
        room = max_length - self._template.n_special
        if self._query_prompt:
            queries = [self._query_prompt + query for query in queries]
        distinct = list(dict.fromkeys(queries))
        if windows or max(map(len, passages), default=0) <= LONG_TEXT_CHARS:
            both = self._texts.encode([*distinct, *passages])
            query_ids, passage_ids = both[: len(distinct)], both[len(distinct) :]
        else:
            query_ids = self._texts.encode(distinct)
            # A token beyond this cannot change what is kept, only say that something was cut.
            limit = max(int(np.max(room)), *map(len, query_ids)) + 1
            passage_ids = self._texts.encode(passages, limit)
        ids_of = dict(zip(distinct, query_ids, strict=True))
        n_query = np.fromiter((len(ids_of[query]) for query in queries), np.int64, len(queries))
        n_passage = np.fromiter(map(len, passage_ids), np.int64, len(passage_ids))
        truncated = n_query + n_passage > room
        full_prefixes = {query: self._prefix(ids) for query, ids in ids_of.items()}
        sequences = Sequences(
            prefixes=[full_prefixes[query] for query in queries],
            passage_ids=passage_ids,
            lengths=n_query + n_passage + self._template.n_special,
            pair_index=np.arange(len(passage_ids)),
            starts=np.zeros(len(passage_ids), np.int64),
            truncated=truncated,
        )
        if not truncated.any():
            return sequences
        cut = self._windowed if windows else self._truncated
        rooms = np.broadcast_to(room, len(passages)).tolist()
        return cut(sequences, [ids_of[query] for query in queries], rooms)

    def pack(self, sequences: Sequences, order: Sequence[int]) -> PackedPairs:
        """Return the sequences at these indices end to end, in this order."""
        suffix = self._template.suffix
        parts: list[TokenIds] = []
        for index in order:
            parts += (sequences.prefixes[index], sequences.passage_ids[index], suffix)
        counts = np.empty(2 * len(order), np.int64)
        counts[0::2] = [len(sequences.prefixes[index]) for index in order]
        lengths = sequences.lengths[np.asarray(order, np.int64)]
        counts[1::2] = lengths - counts[0::2]
        types = np.array([self._template.query_type, self._template.passage_type], np.int32)
        return PackedPairs(
            ids=np.concatenate(parts) if parts else np.empty(0, np.int32),
            type_ids=np.repeat(np.tile(types, len(order)), counts),
            lengths=lengths.astype(np.int32),
        )

    def truncated(
        self, queries: Sequence[str], passages: Sequence[str], *, max_length: int, windows: bool
    ) -> list[bool]:
        """Say for each pair whether it loses tokens."""
        sequences = self.sequences(queries, passages, max_length=max_length, windows=windows)
        return [bool(flag) for flag in sequences.truncated]

    def beginnings(self, passages: Sequence[str], n_tokens: int) -> list[str]:
        """Return each passage up to the end of its ``n_tokens``-th token."""
        counts = map(len, self._texts.encode(passages, n_tokens))
        offsets_of = self._offsets()
        return [
            passage if count <= n_tokens else passage[: offsets_of(passage)[n_tokens - 1][1]]
            for passage, count in zip(passages, counts, strict=True)
        ]

    def characters(
        self, query: str, passage: str, start: int, *, max_length: int, windows: bool
    ) -> tuple[int, int]:
        """Return the characters of the sequence whose passage tokens begin at ``start``."""
        sequences = self.sequences([query], [passage], max_length=max_length, windows=windows)
        index = sequences.starts.tolist().index(start)
        if len(sequences.passage_ids) == 1 and not sequences.truncated[0]:
            return 0, len(passage)
        if len(sequences.passage_ids[index]) == 0:
            return 0, 0
        offsets = self._offsets()(passage)
        return offsets[start][0], offsets[start + len(sequences.passage_ids[index]) - 1][1]

    def _offsets(self) -> Callable[[str], list[tuple[int, int]]]:
        """Return what gives a text's tokens as (start, end) in characters."""

        # Asked for seldom, and at much cost: from the real tokenizer, made when there is one to do.
        @functools.cache
        def tokenizer() -> tokenizers.Tokenizer:
            made = tokenizers.Tokenizer.from_str(self._tokenizer_json)
            made.no_truncation()
            made.no_padding()
            return made

        return lambda text: tokenizer().encode(text, add_special_tokens=False).offsets

    def _prefix(self, query_ids: TokenIds) -> TokenIds:
        return np.concatenate((self._template.prefix, query_ids, self._template.middle))

    def _truncated(
        self, sequences: Sequences, query_ids: list[TokenIds], rooms: list[int]
    ) -> Sequences:
        for index in np.flatnonzero(sequences.truncated).tolist():
            query, passage = query_ids[index], sequences.passage_ids[index]
            kept_query, kept_passage = longest_first(len(query), len(passage), rooms[index])
            if kept_query < len(query):
                sequences.prefixes[index] = self._prefix(query[:kept_query])
            sequences.passage_ids[index] = passage[:kept_passage]
            sequences.lengths[index] = kept_query + kept_passage + self._template.n_special
        return sequences

    def _windowed(
        self, sequences: Sequences, query_ids: list[TokenIds], rooms: list[int]
    ) -> Sequences:
        prefixes: list[TokenIds] = []
        passages: list[TokenIds] = []
        owners: list[int] = []
        starts: list[int] = []
        texts = zip(query_ids, sequences.passage_ids, rooms, strict=True)
        for index, (query, passage, room) in enumerate(texts):
            # A short passage leaves the query more than half; a long one is what windows are for.
            kept_query = min(len(query), max(room // 2, room - len(passage)))
            cut_query = kept_query < len(query)
            prefix = self._prefix(query[:kept_query]) if cut_query else sequences.prefixes[index]
            width = max(1, min(len(passage), room - kept_query))
            # Only a query that had to be cut counts as truncated: the windows cover the passage.
            sequences.truncated[index] = cut_query
            stride = max(1, width - int(width * WINDOW_OVERLAP))
            last = max(0, len(passage) - width)
            for start in [*range(0, last, stride), last]:
                prefixes.append(prefix)
                passages.append(passage[start : start + width])
                owners.append(index)
                starts.append(start)
        lengths = [
            len(prefix) + len(passage) + len(self._template.suffix)
            for prefix, passage in zip(prefixes, passages, strict=True)
        ]
        return Sequences(
            prefixes,
            passages,
            np.array(lengths),
            np.array(owners),
            np.array(starts),
            sequences.truncated,
        )
