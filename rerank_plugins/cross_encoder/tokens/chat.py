"""Pairs that are rendered through a tokenizer's chat template, as sentence-transformers does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank_plugins.cross_encoder.pairs import Int64Array, TokenIds
from rerank_plugins.cross_encoder.tokens.pairs import PairEncoder, Sequences
from rerank_plugins.cross_encoder.tokens.template import PairTemplate
from rerank_plugins.errors import InvalidArgumentError, ScoringError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rerank_plugins.cross_encoder.tokens.encoders import TextEncoder

_STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")
_REMEDY = (
    "give the folder a chat_template.jinja that renders the roles 'query' and 'document', or "
    "delete the template if the model was trained without it"
)


class ChatPairEncoder(PairEncoder):
    """Renders a pair as one message of the role ``query`` and one of the role ``document``.

    A text that is too long loses its end, then gets the template's own last tokens back. The
    prompt of the model is a message of the role ``system``. There are no windows.
    """

    def __init__(
        self,
        texts: TextEncoder,
        tokenizer: PreTrainedTokenizerBase,
        tokenizer_json: str,
        *,
        query_prompt: str,
        message_format: str | None,
        chat_kwargs: Mapping[str, Any],
    ) -> None:
        none = np.empty(0, np.int32)
        bare = PairTemplate(prefix=none, middle=none, suffix=none, query_type=0, passage_type=0)
        super().__init__(texts, bare, tokenizer_json)
        self._tokenizer = tokenizer
        self._system = query_prompt
        self._kwargs = dict(chat_kwargs)
        template = tokenizer.chat_template
        if message_format is None:
            flat = isinstance(template, str) and not any(mark in template for mark in _STRUCTURED)
            message_format = "flat" if flat else "structured"
        self._structured = message_format == "structured"
        self._check_template()
        self._suffix = self._template_end()

    def check_max_length(self, max_length: int) -> None:
        needed = len(self._suffix) + 2
        if max_length < needed:
            raise InvalidArgumentError(
                f"max_length must be at least {needed} tokens ({len(self._suffix)} that end the "
                f"chat template, one of the query, one of the passage), got {max_length}"
            )

    def sequences(
        self,
        queries: Sequence[str],
        passages: Sequence[str],
        *,
        max_length: int | Int64Array,
        windows: bool,
        passage_ids: list[TokenIds] | None = None,
    ) -> Sequences:
        if windows:
            raise InvalidArgumentError(
                "long_documents='max' cannot be used with a model that has a chat template; "
                "use long_documents='truncate'"
            )
        ids = self._texts.encode(self._rendered(queries, passages))
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        limits = np.broadcast_to(max_length, len(ids))
        truncated = lengths > limits
        for index in np.flatnonzero(truncated).tolist():
            limit = int(limits[index])
            end = self._suffix[-limit:]
            ids[index] = np.concatenate((ids[index][: limit - len(end)], end))
        return Sequences(
            prefixes=[np.empty(0, np.int32)] * len(ids),
            passage_ids=ids,
            lengths=np.minimum(lengths, limits),
            pair_index=np.arange(len(ids)),
            starts=np.zeros(len(ids), np.int64),
            truncated=truncated,
        )

    def characters(
        self, query: str, passage: str, start: int, *, max_length: int, windows: bool
    ) -> tuple[int, int]:
        if not self.truncated([query], [passage], max_length=max_length, windows=windows)[0]:
            return 0, len(passage)
        raise InvalidArgumentError(
            "best_windows() cannot say which characters of a truncated passage a chat template "
            "leaves; use score(), or a larger max_length"
        )

    def _rendered(self, queries: Sequence[str], passages: Sequence[str]) -> list[str]:
        pairs = zip(queries, passages, strict=True)
        try:
            return [self._render(query, passage) for query, passage in pairs]
        except Exception as error:  # a template is a program of the model's own
            raise ScoringError(
                f"the model's chat template cannot render a pair: {error}; {_REMEDY}"
            ) from error

    def _render(self, query: str, passage: str) -> str:
        def content(text: str) -> object:
            return [{"type": "text", "text": text}] if self._structured else text

        messages: list[Any] = [
            {"role": "query", "content": content(query)},
            {"role": "document", "content": content(passage)},
        ]
        if self._system:
            messages.insert(0, {"role": "system", "content": content(self._system)})
        rendered = self._tokenizer.apply_chat_template(messages, tokenize=False, **self._kwargs)
        return str(rendered)

    def _check_template(self) -> None:
        system, self._system = self._system, ""
        try:
            base = self._render("a", "b")
            dropped = [
                role
                for role, other in (("query", ("c", "b")), ("document", ("a", "c")))
                if self._render(*other) == base
            ]
        except Exception as error:  # a template is a program of the model's own
            raise UnsupportedModelError(
                f"the chat template of the model (tokenizer_config.json or chat_template.jinja) "
                f"cannot render a pair: {type(error).__name__}: {error}; {_REMEDY}"
            ) from error
        finally:
            self._system = system
        if dropped:
            raise UnsupportedModelError(
                "the chat template of the model (tokenizer_config.json or chat_template.jinja) "
                f"cannot carry a pair: it leaves out the {' and the '.join(dropped)}; {_REMEDY}"
            )

    def _template_end(self) -> TokenIds:
        """Return the tokens that every rendered pair ends with."""
        first, second = self._texts.encode([self._render(text, text) for text in ("0", "1 2 3 4")])
        count = 0
        for left, right in zip(first[::-1].tolist(), second[::-1].tolist(), strict=False):
            if left != right:
                break
            count += 1
        whole = count == min(len(first), len(second))
        return first[len(first) - (0 if whole else count) :]
