"""The float weights of a model folder (`weights.npz`): what training goes on from and exports again.

Only what differs from the public ImageNet weights is kept, as float16 arrays; nothing is unpickled.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sameitem.core.errors import InputError
from sameitem.learning.category import ShortCategory, category_arrays, category_from
from sameitem.learning.network import BoxHead, FeatureBranch, SubjectPooling
from sameitem.learning.trunk import CHANNELS, folded_trunk

_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError)  # by np.load, beside those of its arrays
Arrays = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The parts of a model version in torch."""

    feature: FeatureBranch
    head: BoxHead | None  # None: the model finds no subjects yet
    category: ShortCategory | None  # None: it tells no category


def pack(learned: Learned) -> bytes:
    """Write a model's weights as the bytes of a `.npz` file."""
    public = folded_trunk().state_dict()
    kept: dict[str, NDArray[np.floating]] = {
        "feature.projection": learned.feature.projection.detach().numpy().astype(np.float16)
    }
    pooling = learned.feature.pooling
    kept["feature.pooling"] = np.array([pooling.centre, pooling.contrast], np.float32)
    for name, value in learned.feature.trunk.state_dict().items():
        if not torch.equal(value, public[name]):
            kept[f"feature.trunk.{name}"] = value.numpy().astype(np.float16)
    if learned.head is not None:
        head = learned.head.state_dict()
        kept |= {f"head.{name}": value.numpy().astype(np.float16) for name, value in head.items()}
    if learned.category is not None:
        arrays = category_arrays(learned.category)
        kept |= {f"category.{name}": value.astype(np.float16) for name, value in arrays.items()}
    out = io.BytesIO()
    np.savez_compressed(out, **kept)  # type: ignore[arg-type]
    return out.getvalue()


def unpack(content: bytes) -> Learned:
    """Read what `pack` wrote.

    Raises:
        InputError: these are not the weights of a model that was trained here.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            kept = {name: np.asarray(arrays[name]) for name in arrays.files}
        projection, pooling = kept["feature.projection"], kept["feature.pooling"]
        if projection.ndim != 2 or projection.shape[0] != CHANNELS:
            raise ValueError(f"need a projection of {CHANNELS} rows, got {projection.shape}")
        trunk = folded_trunk()
        changed = _part(kept, "feature.trunk.")
        trunk.load_state_dict(trunk.state_dict() | changed)
        feature = FeatureBranch(
            trunk, SubjectPooling(centre=float(pooling[0]), contrast=float(pooling[1])), projection.astype(np.float32)
        )
        head = None
        if weights := _part(kept, "head."):
            head = BoxHead()
            head.load_state_dict(weights)
        prefix = "category."
        arrays = {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}
        category = category_from(arrays) if arrays else None
    except (*_DAMAGED, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise InputError(f"these weights cannot be trained on: {error}; start from another model version") from error
    return Learned(feature.eval(), head, category)


def _part(kept: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): torch.from_numpy(value.astype(np.float32))
        for name, value in kept.items()
        if name.startswith(prefix)
    }
