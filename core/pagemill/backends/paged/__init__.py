"""The paged backend: safetensors models on PyTorch, with a paged KV cache. With `store` apart, the only room that
imports torch, transformers and safetensors; nothing here is imported before a model of this kind is loaded.
"""
