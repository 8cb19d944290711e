"""A scripted backend: no model, no memory, exact control. For tests and load tests of every room above it.

`backend` executes plans and checks them, `distribution` decides what is said, `tokenizer` is bytes.
"""

from pagemill.backends.fake.backend import BLOCK_SIZE, DEFAULT_REPLY, FakeBackend
from pagemill.backends.fake.tokenizer import BOS, EOS, FakeTokenizer

__all__ = ["BLOCK_SIZE", "BOS", "DEFAULT_REPLY", "EOS", "FakeBackend", "FakeTokenizer"]
