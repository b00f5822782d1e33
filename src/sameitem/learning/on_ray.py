"""Training on several GPUs, or several processes, through Ray Train: each worker takes the steps of `train.py`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from sameitem.core.errors import InputError, SameItemError
from sameitem.core.records import ContentHash, Pixels
from sameitem.features.model_folder import read_model
from sameitem.learning.phases import Recipe
from sameitem.learning.train import read_start, recipe_for, train_embedding
from sameitem.learning.triplet_set import read_triplet_set


def train_embedding_on_ray(
    *,
    triplets: Path,
    start: Path,
    out: Path,
    photo: Callable[[ContentHash], Pixels],
    checkpoint: Path,
    minutes: float | None,
    seed: int,
    workers: int,
    use_gpu: bool,
    recipe: Recipe | None = None,
) -> Mapping[str, Any]:
    """Teach detection and feature as `train_embedding` does, on the workers of the Ray cluster that is connected.

    A step's batches are spread over the workers and their gradients averaged, so that W workers learn what one process
    learns with `batches=W`, up to the order of sums. The crops that are searched are spread as well. How far it is
    stands in the checkpoint folder: `curves.jsonl`, and `training.html` for people.

    Args:
        triplets: as there; like all paths, on a disk that every worker reaches by the same name.
        start: as there.
        out: as there.
        photo: called here, before the workers start.
        checkpoint: as there; a run may go on with another number of workers that its batches can be spread over.
        minutes: as there.
        seed: as there.
        workers: how many processes.
        use_gpu: whether each has a GPU of its own.
        recipe: its `batches` a multiple of `workers`; None = as `recipe_for` says, a batch per worker.

    Returns:
        What was measured on the photos that validate.

    Raises:
        InputError: a number of batches that the workers cannot share evenly; else as `train_embedding`.
        ConflictError: as `train_embedding`.
    """
    if workers < 1:
        raise InputError(f"need at least one worker, got {workers}", field="workers")
    found = read_triplet_set(triplets, photo, checkpoint / "pixels")
    if recipe is None:
        recipe = replace(recipe_for(found, read_start(start)[1]), batches=workers)
    if recipe.batches % workers:
        raise InputError(f"need batches that {workers} workers share evenly, got {recipe.batches}", field="batches")
    asked = {
        "triplets": triplets.absolute(),
        "start": start.absolute(),
        "out": out.absolute(),
        "checkpoint": checkpoint.absolute(),
        "minutes": minutes,
        "seed": seed,
        "recipe": recipe,
    }
    trainer = TorchTrainer(
        partial(_work, asked),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if use_gpu else "gloo"),
        run_config=RunConfig(name="workers", storage_path=str(checkpoint.absolute() / "ray")),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise _own(error) or error from error
    return read_model(out).metrics


def _own(error: BaseException | None) -> SameItemError | None:
    """Return the error of ours that a worker raised and Ray wrapped."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        for inner in (error, *getattr(error, "worker_failures", {}).values()):
            if isinstance(inner, SameItemError):
                return inner
        error = error.__cause__ or error.__context__
    return None


def _work(asked: Mapping[str, Any]) -> None:
    """Train in one worker; the pictures were laid out before it started."""
    train_embedding(photo=_laid_out, tell=_silent, **asked)


def _laid_out(content_hash: ContentHash) -> Pixels:
    raise InputError(f"{content_hash[:8]} is not laid out: the workers need the driver's disk under the same name")


def _silent(_phase: str, _percent: float, _figures: Mapping[str, float]) -> None:
    """Tell nobody: the driver's terminal is elsewhere."""
