"""A matrix product's weights. Owns no state beside them."""

from typing import NamedTuple

from torch import Tensor


class Linear(NamedTuple):
    """As `Ops.linear` takes them."""

    weight: Tensor  # [out, in], prepared
    bias: Tensor | None = None  # [out]
