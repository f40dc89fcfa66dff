"""The forward pass compiled ahead, for the CPU.

`build` compiles `forward.cpp`, `choice` decides which models use it, `model` calls it. Whatever it
does not take, and whatever it was not measured to be faster at, goes the PyTorch way.
"""
