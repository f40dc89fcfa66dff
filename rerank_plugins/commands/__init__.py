"""The commands of ``rerank-plugins``, one module each."""
