"""Erasing a user: out of the log, the counts, the photos, and every file that was made from them.

Files go first and the log last, for the log says which files; so that an erasure that was killed goes on when it is
repeated. Jobs that may hold the user's photos in memory are cancelled, and waited for.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sameitem.clicks.removal import Traces, remove_user, scrub, traces_of
from sameitem.clicks.triplet_file import drop_triplets, is_triplet_file
from sameitem.clicks.triplets import Triplet
from sameitem.core.errors import UnavailableError
from sameitem.core.jobs import Job, run_job
from sameitem.core.records import ContentHash
from sameitem.features.cache import forget_photos
from sameitem.pipeline.shop import FEATURES, PHOTO_FEATURES, Shop
from sameitem.upkeep.training import CHECKPOINTS

LEARNERS = ("mine", "train", "loop")  # kinds of jobs that read photos and clicks and write what they made of them
WAIT_S = 60.0  # for such a job to stop
_NO_TRIPLETS = ("images", "query-photos", "index", "models", FEATURES, PHOTO_FEATURES)  # folders, some of them huge
_UNFINISHED = re.compile(r"\..+\.(parquet|jsonl)\.\d+\.part")


@dataclass(frozen=True, slots=True)
class Erased:
    """What was kept of a user and is no more."""

    searches: int
    events: int  # theirs, and everybody's on their searches
    photos: int  # that nobody else searched with
    triplets: int  # lines of files
    features: int  # rows of caches
    cancelled: tuple[str, ...]  # ids of jobs that were learning meanwhile, to be started again


def erase_user(shop: Shop, user_id: str, *, clock: Callable[[], float] = time.monotonic) -> Erased:
    """Remove every trace of a user that the shop's folder and database hold; a server may go on meanwhile.

    Model and index versions stay: they hold no photo, id or click. So do backups, and files written elsewhere.

    Raises:
        UnavailableError: a job that learns did not stop in time, or a reader kept the database's log file in use; what
            is left goes when the call is repeated.
    """
    traces = traces_of(shop.database, shop.clicks.pseudonym(user_id)) if user_id else None
    if traces is None or not traces.search_ids:
        scrub(shop.database)  # of an erasure that was killed just before
        return Erased(0, 0, 0, 0, 0, ())
    cancelled = _stop_learning(shop, clock)
    photos = 0
    for name in map(ContentHash, sorted(traces.photos)):
        photos += shop.query_photos.has(name)
        shop.query_photos.delete(name)
    _clear_training(shop)
    triplets = _drop_triplets(shop, traces)
    features = _forget_features(shop, traces)
    removed = remove_user(shop.database, traces.pseudonym)
    triplets += _drop_triplets(shop, traces)  # of a job that began meanwhile
    features += _forget_features(shop, traces)
    scrub(shop.database)
    return Erased(removed.searches, removed.events, photos, triplets, features, tuple(job.id for job in cancelled))


def _stop_learning(shop: Shop, clock: Callable[[], float]) -> list[Job]:
    """Cancel the jobs that learn and wait until they have ended; one that a killed runner left behind ends here."""
    ends = clock() + WAIT_S

    def wait(job: Job) -> None:
        if clock() > ends:
            raise UnavailableError(
                f"the job {job.id} ({job.kind}) has not stopped within {WAIT_S:g} s; nothing was erased yet: try again"
            )

    found = shop.jobs.pending(LEARNERS)
    for job in found:
        if not shop.jobs.get(job.id).is_finished:
            shop.jobs.request_cancel(job.id)
    for job in found:
        run_job(shop.jobs, job.id, {}, waiting=wait)
    return found


def _clear_training(shop: Shop) -> None:
    """Remove copies of photos and what was computed of them, of trainings that have ended."""
    going_on = {job.id for job in shop.jobs.pending(LEARNERS)}
    for folder in (shop.folder / CHECKPOINTS).glob("*/"):
        if folder.name not in going_on:
            shutil.rmtree(folder)


def _drop_triplets(shop: Shop, traces: Traces) -> int:
    def is_gone(triplet: Triplet) -> bool:
        return (
            triplet.user == traces.pseudonym
            or triplet.search_id in traces.search_ids
            or triplet.photo.content_hash in traces.photos
        )

    dropped = 0
    for file in _files(shop.folder):
        if _UNFINISHED.fullmatch(file.name):  # who wrote it was killed, or cancelled above
            file.unlink(missing_ok=True)
        elif file.suffix == ".parquet" and is_triplet_file(file):
            dropped += drop_triplets(file, is_gone)
    return dropped


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.name not in _NO_TRIPLETS:
            yield from sorted(file for file in path.rglob("*") if file.is_file())


def _forget_features(shop: Shop, traces: Traces) -> int:
    listed = shop.catalogue.hashes_in_use(sorted(map(ContentHash, traces.photos)))
    ours = traces.photos - listed  # the same picture may be one of the catalogue
    return forget_photos(shop.photo_features_root, traces.photos) + forget_photos(shop.features_root, ours)
