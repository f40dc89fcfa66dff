"""What to test a reranker with: fake scorers, and the contract as test classes to subclass.

The fakes need nothing: they stand in for a model in the tests of a program that reranks.

>>> from rerank_plugins import rank
>>> from rerank_plugins.testing import FakeScorer
>>> passages = ["a river in France", "how to sort a list", "a sorted list"]
>>> [passages[row.index] for row in rank(FakeScorer(), "sort a list", passages)]
['how to sort a list', 'a sorted list', 'a river in France']

The test classes need pytest (extra ``testing``). Each asks only how the thing under test is made::

    from rerank_plugins.testing.scorer import ScorerTests

    class TestMyScorer(ScorerTests):
        def make(self):
            return MyScorer()

- `rerank_plugins.testing.scorer.ScorerTests`: a scorer of your own.
- `rerank_plugins.testing.langchain.CompressorTests`: a LangChain document compressor.
- `rerank_plugins.testing.llama_index.PostprocessorTests`: a LlamaIndex node postprocessor.
- `rerank_plugins.testing.http.RerankApiTests`: a rerank endpoint over HTTP.
"""

from __future__ import annotations

from importlib.util import find_spec

from rerank_plugins.testing.fakes import FailingScorer, FakeScorer, WaitingScorer

__all__ = ["FailingScorer", "FakeScorer", "WaitingScorer"]

# Pytest explains a failed assertion only in modules that it was told of before their import.
if find_spec("pytest") is not None:
    import pytest

    pytest.register_assert_rewrite(
        *(
            f"{__name__}.{name}"
            for name in ("contract", "http", "langchain", "llama_index", "scorer")
        )
    )
