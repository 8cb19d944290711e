"""The Triton kernels of `attention.triton_attention`: page writes, decode and prefill over paged keys and values.

Importing a kernel imports triton, so only what runs on a GPU (or under TRITON_INTERPRET=1) does. Names of compile-time
arguments say so by `tl.constexpr`; sizes that differ from step to step are never compiled in.
"""
