"""A model stored as int8 rows loads as the numbers that its scales give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rerank_plugins.cross_encoder.checkpoint.folder import read_tensors
from rerank_plugins.errors import ModelLoadError
from training.export import int8_rows


def test_int8_rows_are_read_as_the_matrix_that_they_stand_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(40, 24) * torch.logspace(-3, 2, 40)[:, None]
    rows, scales = int8_rows(matrix)
    bias = torch.randn(40, dtype=torch.float16)
    stored = {"x.weight": rows, "x.weight.row_scale": scales, "x.bias": bias}
    save_file(stored, tmp_path / "model.safetensors")
    tensors = read_tensors(tmp_path)
    assert set(tensors) == {"x.weight", "x.bias"}
    assert torch.equal(tensors["x.bias"], bias)
    # Half a step of each row's own 127 is the most that rounding can take.
    step = matrix.abs().amax(dim=1, keepdim=True) / 127
    assert ((tensors["x.weight"] - matrix).abs() <= 0.5001 * step).all()


def test_a_row_of_zeros_stays_zero(tmp_path: Path) -> None:
    rows, scales = int8_rows(torch.zeros(2, 3))
    save_file({"x": rows, "x.row_scale": scales}, tmp_path / "model.safetensors")
    assert read_tensors(tmp_path)["x"].tolist() == [[0.0] * 3] * 2


def test_scales_without_their_matrix_are_refused(tmp_path: Path) -> None:
    save_file({"x.row_scale": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelLoadError, match="'x'"):
        read_tensors(tmp_path)
