"""How the embedded cross-encoder was made: one command, ``python -m training``."""
