"""The peers, each as a function from calls to scores, on the same model folder and max_length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rerank_plugins.benchmark import Call, ScoreCalls

MAX_LENGTH = 512


def ours(folder: str, *, dtype: str) -> ScoreCalls:
    from rerank_plugins import CrossEncoderScorer

    scorer = CrossEncoderScorer(folder, device="cpu", dtype=dtype, max_length=MAX_LENGTH)

    def score(calls: Sequence[Call]) -> list[list[float]]:
        if len(calls) == 1:
            return [scorer.score(*calls[0])]
        flat = scorer.score_pairs([(query, p) for query, passages in calls for p in passages])
        return regrouped(flat, calls)

    return score


def sentence_transformers(folder: str, *, dtype: str, batch_size: int) -> ScoreCalls:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(
        folder,
        device="cpu",
        max_length=MAX_LENGTH,
        model_kwargs={"torch_dtype": getattr(torch, dtype)},
    )

    def score(calls: Sequence[Call]) -> list[list[float]]:
        pairs = [(query, passage) for query, passages in calls for passage in passages]
        flat = model.predict(pairs, batch_size=batch_size, show_progress_bar=False)
        return regrouped(flat.tolist(), calls)

    return score


def plain_transformers(folder: str, *, batch_size: int) -> ScoreCalls:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).train(False)

    def forward(queries: list[str], passages: list[str]) -> list[float]:
        inputs = tokenizer(
            queries,
            passages,
            padding=True,
            truncation=True,
            max_length=MAX_LENGTH,
            return_tensors="pt",
        )
        with torch.inference_mode():
            return [float(value) for value in model(**inputs).logits[:, 0]]

    return _in_batches(forward, batch_size)


def onnx_runtime(folder: str, work: Path, *, batch_size: int | None) -> ScoreCalls:
    """ONNX Runtime on the exported graph; ``batch_size`` None is one batch a call, as FlashRank."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(
        str(_exported(folder, work)), providers=["CPUExecutionProvider"]
    )

    def forward(queries: list[str], passages: list[str]) -> list[float]:
        encodings = tokenizer.encode_batch(list(zip(queries, passages, strict=True)))
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
            "attention_mask": np.array([each.attention_mask for each in encodings], np.int64),
            "token_type_ids": np.array([each.type_ids for each in encodings], np.int64),
        }
        return [float(value) for value in session.run(None, inputs)[0][:, 0]]

    return _in_batches(forward, batch_size)


def langchain_reranker(folder: str) -> ScoreCalls:
    """LangChain's CrossEncoderReranker around sentence-transformers, documents in and out."""
    from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.documents import Document
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(folder, device="cpu", max_length=MAX_LENGTH)

    class Adapter(BaseCrossEncoder):
        def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
            return model.predict(text_pairs, show_progress_bar=False)  # type: ignore[no-any-return]

    reranker = CrossEncoderReranker(model=Adapter(), top_n=10)

    def score(calls: Sequence[Call]) -> list[list[float]]:
        for query, passages in calls:
            documents = [Document(page_content=passage) for passage in passages]
            reranker.compress_documents(documents, query)
        return []  # it gives documents back without scores

    return score


def llama_index_reranker(folder: str) -> ScoreCalls:
    """LlamaIndex's SentenceTransformerRerank, nodes in and out."""
    from llama_index.core.postprocessor import SentenceTransformerRerank

    return _llama_index(SentenceTransformerRerank(model=folder, top_n=10, device="cpu"))


def our_langchain(folder: str) -> ScoreCalls:
    from langchain_core.documents import Document

    from rerank_plugins.langchain import CrossEncoderRerank

    reranker = CrossEncoderRerank(model=folder, device="cpu", top_n=10)

    def score(calls: Sequence[Call]) -> list[list[float]]:
        for query, passages in calls:
            documents = [Document(page_content=passage) for passage in passages]
            reranker.compress_documents(documents, query)
        return []

    return score


def our_llama_index(folder: str) -> ScoreCalls:
    from rerank_plugins.llama_index import CrossEncoderRerank

    return _llama_index(CrossEncoderRerank(model=folder, device="cpu", top_n=10))


def _llama_index(postprocessor: Any) -> ScoreCalls:
    from llama_index.core.schema import NodeWithScore, TextNode

    def score(calls: Sequence[Call]) -> list[list[float]]:
        for query, passages in calls:
            nodes = [NodeWithScore(node=TextNode(text=passage)) for passage in passages]
            postprocessor.postprocess_nodes(nodes, query_str=query)
        return []

    return score


def regrouped(flat: list[float], calls: Sequence[Call]) -> list[list[float]]:
    rows, start = [], 0
    for _, passages in calls:
        rows.append(flat[start : start + len(passages)])
        start += len(passages)
    return rows


def _in_batches(
    forward: Callable[[list[str], list[str]], list[float]], batch_size: int | None
) -> ScoreCalls:
    def score(calls: Sequence[Call]) -> list[list[float]]:
        pairs = [(query, passage) for query, passages in calls for passage in passages]
        size = batch_size or len(pairs)
        flat: list[float] = []
        for start in range(0, len(pairs), size):
            batch = pairs[start : start + size]
            flat += forward([query for query, _ in batch], [passage for _, passage in batch])
        return regrouped(flat, calls)

    return score


def _exported(folder: str, work: Path) -> Path:
    from transformers import AutoModelForSequenceClassification

    path = work / "model.onnx"
    if path.exists():
        return path
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    names = ["input_ids", "attention_mask", "token_type_ids"]

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.train(False)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits

    sample = torch.ones(2, 16, dtype=torch.long)
    torch.onnx.export(
        Logits().train(False),
        (sample, sample, torch.zeros_like(sample)),
        str(path),
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "pairs", 1: "tokens"} for name in names},
        opset_version=17,
        dynamo=False,
    )
    return path
