"""The loaded models: what other rooms use of the pool, and of what it gives and takes.

May not import a backend, HTTP or the dialects: what loads a model is handed in.
"""

from pagemill.keep_alive import parse_keep_alive
from pagemill.pool.budget import ModelMemory
from pagemill.pool.loaded_model import LoadedModel
from pagemill.pool.model_pool import ModelPool
from pagemill.pool.slot import LoadedModelStatus, ModelSlot

__all__ = ["LoadedModel", "LoadedModelStatus", "ModelMemory", "ModelPool", "ModelSlot", "parse_keep_alive"]
