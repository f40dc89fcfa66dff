"""Pairs of token ids in, logits out: a forward pass for each kind of model and device."""
