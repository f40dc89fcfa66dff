"""Texts in, token ids and packed pairs out."""
