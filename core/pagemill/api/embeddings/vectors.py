"""What is done with vectors behind the model: length 1, fewer dimensions, base64, cosines. Owns no state.

This module imports numpy, so it is itself imported with the first request that needs it.
"""

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from pagemill.errors import InvalidRequestError

if TYPE_CHECKING:
    from pagemill.backends.embedder import Vector

Matrix = NDArray[numpy.float32]  # [num_vectors, num_dimensions]


def normalized(vectors: "Sequence[Vector]", dimensions: int | None) -> Matrix:
    """The first `dimensions` of each (None: all), scaled to length 1. A vector of zeros stays one.

    Raises:
        InvalidRequestError: the vectors have not so many dimensions.
    """
    matrix: Matrix = numpy.stack([numpy.asarray(vector, dtype=numpy.float32) for vector in vectors])
    size = matrix.shape[1]
    if dimensions is not None:
        if not 1 <= dimensions <= size:
            message = f"dimensions must be between 1 and {size}, which the model's vectors have, got {dimensions}"
            raise InvalidRequestError(message, param="dimensions")
        matrix = matrix[:, :dimensions]
    lengths = numpy.linalg.norm(matrix, axis=1, keepdims=True)
    scaled: Matrix = (matrix / numpy.where(lengths > 0, lengths, 1)).astype(numpy.float32)
    return scaled


def as_base64(matrix: Matrix) -> list[str]:
    """Each vector's bytes, little-endian float32, as OpenAI's clients ask for them."""
    return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in matrix]


def as_numbers(matrix: Matrix) -> list[list[float]]:
    """Each vector as numbers for JSON."""
    rows: list[list[float]] = matrix.tolist()
    return rows
