"""The contract of a rerank endpoint in the shape of Cohere, Jina and vLLM."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from rerank_plugins.errors import require_extra

require_extra("httpx", "pytest", extra="testing,remote", purpose="RerankApiTests")

import httpx  # noqa: E402
import pytest  # noqa: E402

from rerank_plugins.testing.scorer import PASSAGES, QUERY  # noqa: E402


class RerankApiTests(ABC):
    """Subclass, and return from ``connect`` a client whose base address is the server's.

    ``path`` is where it reranks, ``model`` what a request calls the model (None sends no name), and
    ``tolerance`` how far two scores of one pair may lie apart.
    """

    path: ClassVar[str] = "/v1/rerank"
    model: ClassVar[str | None] = None
    tolerance: ClassVar[float] = 1e-4

    @abstractmethod
    def connect(self) -> httpx.Client:
        """Return a client of the server under test; it is closed after each test."""

    @pytest.fixture
    def client(self) -> Iterator[httpx.Client]:
        with self.connect() as client:
            yield client

    def ask(self, client: httpx.Client, **fields: Any) -> httpx.Response:
        named = {} if self.model is None else {"model": self.model}
        return client.post(self.path, json={**named, **fields})

    def rows(
        self, client: httpx.Client, documents: Sequence[str], **fields: Any
    ) -> list[dict[str, Any]]:
        answer = self.ask(client, query=QUERY, documents=list(documents), **fields)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["results"]
        return rows

    def test_each_document_has_a_row_with_its_index_and_a_score(self, client: httpx.Client) -> None:
        rows = self.rows(client, PASSAGES)
        assert sorted(row["index"] for row in rows) == list(range(len(PASSAGES)))
        assert all(math.isfinite(row["relevance_score"]) for row in rows)

    def test_rows_come_best_first(self, client: httpx.Client) -> None:
        scores = [row["relevance_score"] for row in self.rows(client, PASSAGES)]
        assert scores == sorted(scores, reverse=True)

    def test_index_and_score_belong_together(self, client: httpx.Client) -> None:
        alone = [self.rows(client, [passage])[0]["relevance_score"] for passage in PASSAGES]
        for row in self.rows(client, PASSAGES):
            assert row["relevance_score"] == pytest.approx(alone[row["index"]], abs=self.tolerance)

    def test_top_n_keeps_the_best(self, client: httpx.Client) -> None:
        best = [row["index"] for row in self.rows(client, PASSAGES)][:2]
        assert [row["index"] for row in self.rows(client, PASSAGES, top_n=2)] == best

    def test_top_n_may_be_more_than_there_are(self, client: httpx.Client) -> None:
        assert len(self.rows(client, PASSAGES[:2], top_n=9)) == 2

    @pytest.mark.parametrize(
        "fields",
        [{"query": QUERY}, {"documents": PASSAGES}, {"query": QUERY, "documents": 7}],
        ids=["no documents", "no query", "documents that are no list"],
    )
    def test_a_wrong_request_is_refused_in_json(
        self, client: httpx.Client, fields: dict[str, Any]
    ) -> None:
        answer = self.ask(client, **fields)
        assert 400 <= answer.status_code < 500
        assert answer.json()
