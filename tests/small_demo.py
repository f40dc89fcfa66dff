"""A part of the demo's corpus with a small random bi-encoder: the demo without its waiting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from checkpoints import vocabulary, write_model
from transformers import BertConfig, BertModel

from rerank_plugins.demo.collection import DemoCollection, read_demo


def some_passages() -> DemoCollection:
    """Return the demo with every 40th passage."""
    whole = read_demo()
    return replace(whole, passages=whole.passages[::40], digest="every40th")


def write_embedding(folder: Path, seed: int = 0) -> Path:
    """Write a bi-encoder of random weights that sentence-transformers loads."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    return write_model(BertModel(config), folder)
