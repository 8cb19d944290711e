"""The CPU tier: GGUF models on llama.cpp's C API. The only room that imports llama_cpp, when a model is loaded.

One step of the engine is one `llama_decode` over a batch of many sequences; each sequence's KV lives in one stream of
llama.cpp's cache. `backend.GGUFBackend` is the way in. May not import another backend, HTTP or asyncio.
"""
