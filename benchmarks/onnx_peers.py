"""The peers on ONNX Runtime, each as a function from calls to scores."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers import MAX_LENGTH, in_batches, regrouped
from rerank_plugins.workloads import Call, ScoreCalls

OPTIMUM = "sentence-transformers ONNX float32"


def onnx_runtime(folder: str, work: Path, *, batch_size: int | None) -> ScoreCalls:
    """ONNX Runtime on the exported graph; ``batch_size`` None is one batch a call, as FlashRank."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(
        str(exported(folder, work)), providers=["CPUExecutionProvider"]
    )

    def forward(queries: list[str], passages: list[str]) -> list[float]:
        encodings = tokenizer.encode_batch(list(zip(queries, passages, strict=True)))
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
            "attention_mask": np.array([each.attention_mask for each in encodings], np.int64),
            "token_type_ids": np.array([each.type_ids for each in encodings], np.int64),
        }
        return [float(value) for value in session.run(None, inputs)[0][:, 0]]

    return in_batches(forward, batch_size)


def sentence_transformers_onnx(folder: str, *, batch_size: int) -> ScoreCalls:
    """sentence-transformers with ``backend="onnx"``; needs the package optimum-onnx."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(
        folder,
        device="cpu",
        max_length=MAX_LENGTH,
        backend="onnx",
        model_kwargs={"provider": "CPUExecutionProvider", "export": True},
    )

    def score(calls: Sequence[Call]) -> list[list[float]]:
        pairs = [(query, passage) for query, passages in calls for passage in passages]
        flat = model.predict(pairs, batch_size=batch_size, show_progress_bar=False)
        return regrouped(flat.tolist(), calls)

    return score


@functools.cache
def why_no_optimum() -> str | None:
    """Return why sentence-transformers' ONNX backend cannot run here, None where it can."""
    if find_spec("optimum") is not None and find_spec("optimum.onnxruntime") is not None:
        return None
    reason = "it needs optimum-onnx, which is not installed"
    conflict = installation_conflict(_pip("optimum-onnx", ("transformers", "torch")))
    return f"{reason}; pip: {conflict}" if conflict else reason


def installation_conflict(pip_output: str) -> str:
    """Return the newest release's requirement and the version that is in its way.

    >>> installation_conflict('''The conflict is caused by:
    ...     optimum-onnx 0.1.0 depends on transformers<4.58.0 and >=4.36
    ...     optimum-onnx 0.0.3 depends on transformers<4.56.0 and >=4.36.0
    ...     The user requested (constraint) transformers==5.23.0
    ... ''')
    'optimum-onnx 0.1.0 depends on transformers<4.58.0 and >=4.36; this is transformers 5.23.0'
    >>> installation_conflict("Could not find a version")
    ''
    """
    needs = re.search(r"^\s*(\S+ \S+ depends on .+)$", pip_output, re.MULTILINE)
    given = re.search(r"requested \(constraint\) (\S+?)==(\S+)", pip_output)
    if needs is None or given is None:
        return ""
    return f"{needs[1].strip()}; this is {given[1]} {given[2]}"


def _pip(package: str, pinned: Sequence[str]) -> str:
    """Ask pip, without installing anything, whether ``package`` fits the ``pinned`` versions."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        for name in pinned:
            constraints.write(f"{name}=={version(name).partition('+')[0]}\n")
        constraints.flush()
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "-c", constraints.name]
        try:
            done = subprocess.run(
                [*command, package], capture_output=True, text=True, timeout=120, check=False
            )
        except subprocess.TimeoutExpired:
            return ""
    return done.stdout + done.stderr


def exported(folder: str, work: Path) -> Path:
    """Return the model's graph as a file in ``work``, written at the first call."""
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
