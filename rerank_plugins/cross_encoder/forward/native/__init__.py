"""The forward pass compiled ahead: built and switched on by hand, as it is new.

``python -m rerank_plugins.cross_encoder.forward.native.build`` compiles it, and `RERANK_NATIVE=1`
in the environment lets models that it takes use it. Everything else goes the PyTorch way.
"""
