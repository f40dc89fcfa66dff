"""The contract of a reranker in LangChain and in LlamaIndex, as test classes to subclass.

Neither framework's own test kit has one. For your reranker, say how it is made around a scorer
(any object with ``score``, ``ascore``, ``model`` and ``score_unit``; wrap it as the client or the
model that yours talks to) and which settings it has::

    from conformance.langchain import CompressorTests

    class TestMyCompressor(CompressorTests):
        supports = frozenset({"top_n"})  # tests of other settings are skipped

        def make(self, scorer, **settings):
            return MyCompressor(client=MyFakeClient(scorer.score), k=settings.get("top_n"))

`conformance.llama_index.PostprocessorTests` is its twin, and `conformance.scorers` holds the
fakes. Put the folder that holds ``conformance`` on the import path (pytest does so for tests
beside it). Only pytest and the framework in question are needed.
"""

import pytest

pytest.register_assert_rewrite(
    "conformance.contract", "conformance.langchain", "conformance.llama_index"
)
