"""Memory that a thread uses again and again: fresh memory costs as much as a pass of arithmetic (pages are cleared).

Convolutions go from "inputs" (maps on their way there) through "tiles" and "products" to "outputs". A "volume" or a
"map" is what one leaves for the next, which reads all of it before it writes its own.
"""

from __future__ import annotations

import threading
from math import prod

import torch
from torch import Tensor

_own = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of any content. It is valid until this thread asks for that name again."""
    memory: dict[str, Tensor] = _own.__dict__
    size = prod(shape) * dtype.itemsize
    if name not in memory or len(memory[name]) < size:
        with torch.inference_mode(False):  # tensors of that mode could not be written outside it
            memory[name] = torch.empty(size, dtype=torch.uint8)
    return memory[name][:size].view(dtype).view(shape)
