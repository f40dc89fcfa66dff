"""The demo's pipeline in each framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rerank_plugins.demo.corpus import Passage
from rerank_plugins.demo.embedding import Embedding, Vectors
from rerank_plugins.demo.pipeline import Framework, Pipeline
from rerank_plugins.ranking import Scorer


def pipeline_class(
    framework: Framework,
) -> Callable[[Sequence[Passage], Vectors, Embedding, Scorer, int], Pipeline]:
    """Return the pipeline of ``framework``, importing it and not the other."""
    if framework == "langchain":
        from rerank_plugins.demo.langchain_pipeline import LangChainPipeline

        return LangChainPipeline
    from rerank_plugins.demo.llama_index_pipeline import LlamaIndexPipeline

    return LlamaIndexPipeline
