"""Training a new model version from what the shop itself knows: its clicks, its labelled images."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from sameitem.core.errors import ConflictError, ImageError, InputError, NotFoundError
from sameitem.core.jobs import Job
from sameitem.core.records import ContentHash, Pixels
from sameitem.features.model_folder import PAGE, read_model
from sameitem.pipeline.models import check_new_version
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.mining import TRIPLETS

CHECKPOINTS = "training"  # a folder per job
PIXELS = "pixels"  # in it: copies of photos that a trainer makes for itself
KINDS = ("embedding", "category")

TellTraining = Callable[[str, float, Mapping[str, float]], None]  # what is done, percent, losses and rates


class TrainEmbedding(Protocol):
    """Trains the graphs `detect` and `embed` from triplets and writes a model folder; returns its metrics."""

    def __call__(
        self,
        *,
        triplets: Path,
        start: Path,
        out: Path,
        photo: Callable[[ContentHash], Pixels],
        checkpoint: Path,
        minutes: float | None,
        seed: int,
        tell: TellTraining,
        detector: bool,
        kept: Path,
    ) -> Mapping[str, float]:
        """Train until it is done or the minutes are over; what lies in `checkpoint` is gone on from.

        Without detector only the feature's last block learns, and nothing is written where that finds nothing better;
        what is made of photos on the way stays in `kept`.
        """


class TrainCategory(Protocol):
    """Trains the category from labelled images and writes a model folder; returns its metrics."""

    def __call__(
        self, *, images: "LabelledImages", start: Path, out: Path, seed: int, tell: TellTraining
    ) -> Mapping[str, float]:
        """Train until it is done."""


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """The catalogue's images with the top category of their product; can be run through more than once."""

    shop: Shop

    def __iter__(self) -> Iterator[tuple[Pixels, str, str]]:
        """Yield whole photos, top category ids and product ids by image id; photos that are gone are left out."""
        for batch in self.shop.catalogue.scan():
            for image, product in batch:
                if top := self.shop.taxonomy.top_of(product.category):
                    try:
                        yield self.shop.photos.pixels(image.content_hash), top, product.product_id
                    except (NotFoundError, ImageError):
                        continue


@dataclass(frozen=True, slots=True)
class Trainers:
    """The functions that train; `learned` are those of the training stack."""

    embedding: TrainEmbedding
    category: TrainCategory


def learned() -> Trainers:
    """Load the training stack, which nothing else of the program needs.

    Raises:
        InputError: PyTorch or another part of the extra `train` is not installed.
    """
    try:
        module = import_module("sameitem.learning.train")  # by name: only `learning` may know torch
    except ModuleNotFoundError as error:
        raise InputError(
            f"training needs {error.name}, which is not installed; run pip install 'sameitem[train]'"
        ) from error
    return Trainers(cast(TrainEmbedding, module.train_embedding), cast(TrainCategory, module.train_category))


def train(shop: Shop, job: Job, *, trainers: Callable[[], Trainers], tell: TellTraining) -> dict[str, Any]:
    """Train what the job asks for, starting from the active model; a job that was killed goes on from its checkpoint.

    Args:
        shop: whose clicks and images.
        job: with the arguments model ("embedding" or "category"), triplets, minutes, seed and name, and for an
            embedding detector: False = only the feature's last block learns.
        trainers: loads the functions that train.
        tell: is told how far it is.

    Returns:
        version ("" where nothing better than the start was found, which only a training without detector may say),
        metrics, curves (path of the page, "" where there is none) and seconds.

    Raises:
        NotFoundError: there are no triplets.
        InputError: an unknown kind of model, nothing to learn from, or no training stack.
        ConflictError: the name is taken.
    """
    kind, asked = str(job.arguments["model"]), job.arguments
    if kind not in KINDS:
        raise InputError(f"need a model of {', '.join(KINDS)}, got {kind!r}", field="model")
    if asked["name"]:
        check_new_version(asked["name"])
    version = asked["name"] or f"{kind}-{datetime.fromtimestamp(job.created_at, UTC):%Y%m%d-%H%M%S}"
    out, checkpoint = shop.models_root / version, shop.folder / CHECKPOINTS / job.id
    begun = time.monotonic()
    metrics: Mapping[str, Any] | None = None
    if not out.exists():
        _clear_checkpoints(shop)
        triplets = Path(asked["triplets"]) if asked["triplets"] else shop.folder / TRIPLETS
        if kind == "embedding" and not triplets.is_file():
            raise NotFoundError(f"no triplets at {triplets}; run `sameitem mine` first, or give --triplets FILE")
        functions, start = trainers(), shop.model_folder(shop.active_model)
        checkpoint.mkdir(parents=True, exist_ok=True)
        if kind == "embedding":
            metrics = functions.embedding(
                triplets=triplets,
                start=start,
                out=out,
                photo=lambda content_hash: _photo(shop, content_hash),
                checkpoint=checkpoint,
                minutes=asked["minutes"],
                seed=asked["seed"],
                tell=tell,
                detector=asked.get("detector", True),
                kept=shop.photo_features_root,
            )
        else:
            images = LabelledImages(shop)
            metrics = functions.category(images=images, start=start, out=out, seed=asked["seed"], tell=tell)
    elif not checkpoint.is_dir():
        raise ConflictError(f"model version {version!r} exists and model versions never change; choose another --name")
    if metrics is None:  # it was finished by a run that was killed before it could say so
        metrics = read_model(out).metrics
    shutil.rmtree(checkpoint / PIXELS, ignore_errors=True)  # users' photos are kept for their days, not for longer
    return {
        "version": version if out.exists() else "",
        "metrics": dict(metrics),
        "curves": str(out / PAGE) if (out / PAGE).is_file() else "",
        "seconds": round(time.monotonic() - begun, 1),
    }


def _photo(shop: Shop, content_hash: ContentHash) -> Pixels:
    store = shop.photos if shop.photos.has(content_hash) else shop.query_photos
    return store.pixels(content_hash)


def _clear_checkpoints(shop: Shop) -> None:
    """Remove what trainings left that ended one way or another."""
    going_on = {job.id for job in shop.jobs.pending(["train", "loop"])}
    for folder in (shop.folder / CHECKPOINTS).glob("*/"):
        if folder.name not in going_on:
            shutil.rmtree(folder)
