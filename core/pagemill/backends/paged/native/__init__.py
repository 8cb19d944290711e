"""C kernels for the CPU: their sources, their build and their loading. The one room that runs a compiler."""
