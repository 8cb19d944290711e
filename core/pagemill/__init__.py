"""Pagemill: one LLM endpoint for laptops, CPU functions and GPU containers.

Importing this package loads nothing but the version: neither torch nor llama_cpp, nor the web stack.
"""

__version__ = "0.1.0"
