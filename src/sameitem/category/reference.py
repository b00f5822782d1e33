"""The reference set: labelled images whose neighbours vote for a photo's category.

A folder of files beside the gallery: features of the general model, which stay when the product feature changes.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.category.vote import NO_TOP
from sameitem.core.durable import write_whole
from sameitem.core.errors import ConflictError, InputError, NotFoundError, ShapeError
from sameitem.engine.distances import squared_distances
from sameitem.engine.files import FileEntry, differences, write_array

FORMAT = 1
MANIFEST = "reference.json"
FILES = ("features.npy", "leaves.npy", "image_ids.npy")
HASHED_BYTES = 4_000_000  # larger files are checked by their size when the set is opened
SLACK = 32  # rows beyond the k-th that the matrix product hands to the exact kernel
QUERIES_AT_ONCE = 256  # so that the distances of a batch fit into memory


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest reference images of each query, nearest first, ties by image id."""

    rows: NDArray[np.int64]  # (queries, k) of the reference set
    distances: NDArray[np.float64]  # (queries, k) squared L2


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSet:
    """Labelled images: row i of `features`, `leaves` and `image_ids` describes one; checked by the constructor.

    Raises:
        ShapeError: arrays that do not fit each other.
        InputError: no images, an unknown leaf, or an unknown top category.
    """

    model_version: str  # of the general model
    features: NDArray[np.float32]  # (images, dim), unit length
    leaves: NDArray[np.int32]  # (images,) rows of `leaf_names`
    image_ids: NDArray[np.int64]  # (images,)
    leaf_names: tuple[str, ...]
    top_of_leaf: NDArray[np.int64]  # (leaves,) rows of `top_names`, or vote.NO_TOP
    top_names: tuple[str, ...]

    def __post_init__(self) -> None:
        shapes = (self.features.shape[:1], self.leaves.shape, self.image_ids.shape)
        if self.features.ndim != 2 or len(set(shapes)) != 1 or self.top_of_leaf.shape != (len(self.leaf_names),):
            raise ShapeError(
                f"need one leaf and image id per feature and one top per leaf, got features {self.features.shape}, "
                f"leaves {self.leaves.shape}, image ids {self.image_ids.shape}, tops {self.top_of_leaf.shape}"
            )
        if len(self.leaves) == 0 or not 0 <= self.leaves.min() <= self.leaves.max() < len(self.leaf_names):
            raise InputError(f"need at least one image, and leaves of 0 to {len(self.leaf_names) - 1}")
        if not NO_TOP <= self.top_of_leaf.min() <= self.top_of_leaf.max() < len(self.top_names):
            raise InputError(f"need top categories of {NO_TOP} (unknown) to {len(self.top_names) - 1}")

    def neighbours(self, features: NDArray[np.float32], k: int) -> Neighbours:
        """Return the k nearest images of each of many features (queries, dim) by a linear scan; all of a smaller set.

        Raises:
            ShapeError: features of another width.
            InputError: k below 1, or a feature that is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.features.shape[1]:
            raise ShapeError(f"need features (queries, {self.features.shape[1]}), got {features.shape}")
        if k < 1 or not np.isfinite(features).all():
            raise InputError(f"need k >= 1 and finite features, got k {k}")
        k = min(k, len(self.features))
        rows = np.empty((len(features), k), dtype=np.int64)
        distances = np.empty((len(features), k))
        for start in range(0, len(features), QUERIES_AT_ONCE):
            part = features[start : start + QUERIES_AT_ONCE]
            for i, (feature, near) in enumerate(zip(part, self._near(part, k), strict=True), start):
                exact = squared_distances(self.features[near], feature)
                order = np.lexsort((self.image_ids[near], exact))[:k]
                rows[i], distances[i] = near[order], exact[order]
        return Neighbours(rows, distances)

    def _near(self, features: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the k nearest rows of each query and some more, in no order, as a matrix product sees them."""
        count = min(k + SLACK, len(self.features))
        away = -(features @ self.features.T)  # of unit vectors: half the squared distance, less 1
        return np.argpartition(away, count - 1, axis=1)[:, :count]


def choose_reference(
    leaves: NDArray[np.int64], image_ids: NDArray[np.int64], *, per_leaf: int, seed: int = 0
) -> NDArray[np.int64]:
    """Choose the images of a reference set: at most `per_leaf` of each leaf, spread by a hash of their image id.

    The hash makes the choice the same from build to build while the catalogue grows: an image leaves only where one
    with a smaller hash joins its leaf.

    Args:
        leaves: (images,) leaf of each image, negative = not labelled, never chosen.
        image_ids: (images,)
        per_leaf: at least 1.
        seed: another one chooses other images.

    Returns:
        Rows chosen, ascending.
    """
    if leaves.ndim != 1 or leaves.shape != image_ids.shape:
        raise ShapeError(f"need one leaf per image id, got {leaves.shape} and {image_ids.shape}")
    if per_leaf < 1:
        raise InputError(f"need per_leaf >= 1, got {per_leaf}")
    order = np.lexsort((image_ids, _mixed(image_ids, seed), leaves))
    order = order[leaves[order] >= 0]
    _, first, counts = np.unique(leaves[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(first, counts)  # within the leaf
    return np.sort(order[place < per_leaf])


def write_reference(folder: Path, reference: ReferenceSet) -> list[str]:
    """Write a reference set into a new folder, synced to the disk; return its files' names from the parent folder."""
    folder.mkdir(parents=True)
    features = reference.features.astype(np.float32, copy=False)
    arrays: tuple[NDArray[Any], ...] = (features, reference.leaves, reference.image_ids)
    files = {name: asdict(write_array(folder / name, array)) for name, array in zip(FILES, arrays, strict=True)}
    about = {
        "format": FORMAT,
        "model_version": reference.model_version,
        "leaf_names": reference.leaf_names,
        "top_of_leaf": reference.top_of_leaf.tolist(),
        "top_names": reference.top_names,
        "files": files,
    }
    write_whole(folder / MANIFEST, json.dumps(about, ensure_ascii=False, indent=1).encode())
    return [f"{folder.name}/{name}" for name in (MANIFEST, *FILES)]


def open_reference(folder: Path) -> ReferenceSet:
    """Open a reference set; its features stay on the disk until they are used.

    Raises:
        NotFoundError: there is none in the folder.
        ConflictError: a format this release does not read, or a file that does not fit; names it.
    """
    try:
        about = json.loads((folder / MANIFEST).read_bytes())
        number = about.get("format") if isinstance(about, dict) else None
        if number != FORMAT:
            raise ConflictError(f"{MANIFEST} has format {number!r}, this release reads {FORMAT}; run `sameitem build`")
        files = [(name, FileEntry(**about["files"][name])) for name in FILES]
        wrong = differences(folder, files, hash_up_to_bytes=HASHED_BYTES)
        if wrong:
            raise ConflictError(f"the reference set is damaged: {'; '.join(wrong)}; run `sameitem build`")
        features, leaves, image_ids = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in FILES)
        return ReferenceSet(
            model_version=about["model_version"],
            features=features,
            leaves=leaves,
            image_ids=image_ids,
            leaf_names=tuple(about["leaf_names"]),
            top_of_leaf=np.array(about["top_of_leaf"], dtype=np.int64),
            top_names=tuple(about["top_names"]),
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"no reference set in {folder.name}; run `sameitem build`") from error
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise ConflictError(
            f"the reference set in {folder.name} is damaged ({error!r}); run `sameitem build`"
        ) from error


def _mixed(image_ids: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Return a well mixed number per image id (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = image_ids.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
