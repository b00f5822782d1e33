"""Several processes that take the same steps: which parts of a step are whose, and how they agree on what comes of it.

A process alone owns every part, and the rest of this module does nothing. Who starts several is `on_ray.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def number() -> int:
    """Return which of the processes this is, from 0; the first one writes what is written."""
    return distributed.get_rank() if _many() else 0


def count() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if _many() else 1


def own(parts: int) -> range:
    """Return the parts of a step that are this process's."""
    return range(number(), parts, count())


def add_up(values: Sequence[Tensor]) -> None:
    """Replace tensors of one type and device by their sums over all processes: the same bits in each of them."""
    if not _many():
        return
    together = torch.cat([value.detach().reshape(-1) for value in values])
    distributed.all_reduce(together)
    done = 0
    for value in values:
        value.detach().copy_(together[done : done + value.numel()].reshape(value.shape))
        done += value.numel()


def agreed(value: float) -> float:
    """Return what the first process says."""
    if not _many():
        return value
    said = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(said, 0)
    return float(said)


def _many() -> bool:
    return distributed.is_available() and distributed.is_initialized()
