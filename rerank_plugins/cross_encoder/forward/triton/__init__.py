"""The forward pass on CUDA: `forward.CudaForward` is what the rest of the package knows.

Its general path is plain PyTorch on packed pairs (`packed`); Triton kernels (`kernels`,
`attention_kernels`, put together in `fused`) take over where they pay, after `parity` has held
each against its plain twin. Not yet measured on a GPU.
"""
