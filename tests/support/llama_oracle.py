"""llama.cpp as others use it, to compare with: one sequence at a time through llama-cpp-python's own `Llama` class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagemill.backends.gguf.library import load_library


class LlamaOracle:
    """A model with room for one sequence."""

    def __init__(self, path: Path, num_tokens: int = 512) -> None:
        import llama_cpp

        self._llama: Any = llama_cpp.Llama(
            str(path), n_ctx=num_tokens, n_threads=1, n_threads_batch=1, flash_attn=True, logits_all=True, verbose=False
        )
        # Importing the package took the log callback from our library.
        library = load_library()
        library.c.llama_log_set(library.callback, None)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits of every position, `[num_tokens, vocab_size]`, from one full prefill."""
        self._llama.reset()
        self._llama.eval(list(tokens))
        rows: NDArray[np.float32] = np.array(self._llama.scores[: len(tokens)], np.float32)
        return rows

    def greedy(self, prompt: Sequence[int], num_tokens: int) -> list[int]:
        """The most likely continuation, token by token, without a stop at the end of text."""
        self._llama.reset()
        self._llama.eval(list(prompt))
        output: list[int] = []
        for _ in range(num_tokens):
            output.append(int(np.argmax(self._llama.scores[self._llama.n_tokens - 1])))
            self._llama.eval(output[-1:])
        return output

    def close(self) -> None:
        self._llama.close()


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-probabilities of rows of logits, the plain way."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = np.log(exponentials / exponentials.sum(axis=-1, keepdims=True))
    return result
