"""Import: a source's rows and images into the catalogue, in batches that a crash can only repeat, never halve.

A batch's photos are in the store before the one transaction that names them; the same transaction moves the job's
cursor. So whatever was acknowledged is there, and a job that was killed goes on behind its last batch.
"""

import csv
import itertools
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Connection, select

from sameitem.catalog.columns import BadRow, DeleteRow, ImageRef, Row, overlay
from sameitem.catalog.fetch import Fetcher
from sameitem.catalog.image_loader import ImageLoader
from sameitem.catalog.readers import Entry, open_source
from sameitem.catalog.store import Catalogue, Listing, NewImage, SetAside, Written
from sameitem.catalog.tables import PRODUCT_COLUMNS, product_of, products
from sameitem.core.database import write
from sameitem.core.errors import ConflictError
from sameitem.core.image_intake import ImageIntake
from sameitem.core.jobs import FIRST_ERRORS, Job, JobTable, Progress
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import ImageKind, Product, ProductId
from sameitem.core.settings import ImportSettings

MAX_RUN_ROWS = 1_000  # consecutive rows of one product that are taken together
_DELETED_AT_ONCE = 500
_COUNTS = ("read", "added", "updated", "unchanged", "deleted", "images", "set_aside")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did; counts include the part before an interruption."""

    source: str  # what was detected: format, encoding, columns
    read: int  # rows
    added: int  # products, once per batch that names them
    updated: int
    unchanged: int
    deleted: int  # products
    images: int  # taken; those that were there unchanged are not counted
    set_aside: int  # rows and images that were not taken
    reasons: Mapping[str, int]  # of what was set aside
    warnings: Mapping[str, int]  # optional values that were dropped, by column
    error_file: str  # CSV of what was set aside; "" = nothing was
    deletion_withheld: str = ""  # why a full feed deleted nothing, where it should have


def majority_stays(count: int, total: int) -> bool:
    """Allow a full feed to delete up to half of the catalogue."""
    return 2 * count <= total


def import_catalogue(
    source: Path,
    *,
    catalogue: Catalogue,
    intake: ImageIntake,
    store: PhotoStore,
    table: JobTable,
    job: Job,
    settings: ImportSettings,
    max_file_bytes: int,
    errors_folder: Path,
    columns: Mapping[str, str] | None = None,
    full: bool = False,
    confirm: Callable[[int, int], bool] = majority_stays,
    local_root: Path | None = None,
    on_progress: Callable[[float, Mapping[str, int]], None] | None = None,
) -> ImportReport:
    """Import a file or folder, going on where the same job was interrupted.

    Args:
        source: CSV, TSV, JSON lines or Parquet file, or a folder of images.
        catalogue: where products and images go.
        intake: decodes the images.
        store: keeps the photos.
        table: holds the job, and the engine of the catalogue.
        job: the running job; its cursor tells where to go on.
        settings: batch size and downloads.
        max_file_bytes: bytes an image file may have.
        errors_folder: where `errors-<job>.csv` is written when something was set aside.
        columns: our field name -> the file's column name, where recognition is not enough.
        full: the source lists the whole catalogue: products that it does not name are deleted.
        confirm: asked with the number of products to delete and to be kept or deleted in all; False refuses.
        local_root: images at absolute paths must lie inside; None forbids all local files (a stranger's file).
        on_progress: told percent and counts after each batch.

    Raises:
        NotFoundError: there is no such source.
        InputError: a source that cannot be read at all.
        ConflictError: `confirm` refused; everything but the deletion was done. Also `Cancelled`.
        UnavailableError: database, photo store or intake failed; what was committed is there.
    """
    opened = open_source(source, columns or {})
    _log.info("importing %s: %s", source.name, opened.description)
    state = _State.of(job, opened.fingerprint, errors_folder)
    if full and not state.feed_ended:
        with write(table.engine) as connection:
            if state.line == 0:
                catalogue.end_feed(connection, job.id)
            catalogue.begin_feed(connection, job.id)
    progress = Progress(table, job.id)
    batches = _batches(opened.rows(state.line), settings.batch_rows)
    threads = max(settings.fetch_workers, os.cpu_count() or 1)
    try:
        with Fetcher(settings, max_file_bytes) as fetcher, ThreadPoolExecutor(threads, "import") as pool:
            loader = ImageLoader(opened.images_root, local_root, fetcher, intake, store, max_file_bytes)
            try:
                for work in _prepared(batches, catalogue, pool, loader):
                    _commit(work, catalogue, table, job, state, full=full)
                    progress(percent=state.percent, counts=state.counts)
                    if on_progress is not None:
                        on_progress(state.percent, state.counts)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if full and not state.feed_ended:
            _delete_absent(catalogue, table, job, state, confirm, progress)
    except ConflictError:  # cancelled, or the deletion was refused
        _write_error_file(catalogue, job.id, state)
        raise
    _write_error_file(catalogue, job.id, state)
    return state.report(opened.description)


@dataclass(slots=True)
class _State:
    """How far the import is; saved as the job's cursor and counts with every batch."""

    fingerprint: str
    error_path: str
    line: int = 0
    percent: float = 0.0
    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(_COUNTS, 0)))
    reasons: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0  # rows whose product is unknown
    feed_ended: bool = False
    withheld: str = ""
    first_errors: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, job: Job, fingerprint: str, errors_folder: Path) -> "_State":
        state = cls(fingerprint, str(errors_folder / f"errors-{job.id}.csv"))
        cursor = job.cursor
        if cursor.get("fingerprint") == fingerprint:
            state.line, state.percent, state.unreadable = cursor["line"], job.percent, cursor["unreadable"]
            state.counts.update(job.counts)
            state.reasons.update(cursor["reasons"])
            state.warnings.update(cursor["warnings"])
            state.feed_ended, state.withheld = cursor["feed_ended"], cursor["withheld"]
            state.first_errors = list(job.first_errors)
        return state

    @property
    def error_file(self) -> str:
        return self.error_path if self.counts["set_aside"] else ""

    def save(self, table: JobTable, connection: Connection, job_id: str) -> None:
        cursor = {
            "fingerprint": self.fingerprint,
            "line": self.line,
            "unreadable": self.unreadable,
            "reasons": dict(self.reasons),
            "warnings": dict(self.warnings),
            "feed_ended": self.feed_ended,
            "withheld": self.withheld,
        }
        table.checkpoint(
            connection,
            job_id,
            percent=self.percent,
            counts=dict(self.counts),
            cursor=cursor,
            first_errors=self.first_errors,
            error_file=self.error_file,
        )

    def report(self, source: str) -> ImportReport:
        return ImportReport(
            source=source,
            **{name: self.counts[name] for name in _COUNTS},
            reasons=dict(sorted(self.reasons.items())),
            warnings=dict(sorted(self.warnings.items())),
            error_file=self.error_file,
            deletion_withheld=self.withheld,
        )


# -- rows into batches


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive rows of one product."""

    rows: list[Row]

    @property
    def product_id(self) -> ProductId:
        return self.rows[0].product.product_id

    def images(self) -> list[tuple[int, ImageRef]]:
        """Return line and image of each name; a kind that no row tells is main for the first, other for the rest."""
        found = {image.name: (row.line, image) for row in self.rows for image in row.images}
        has_main = any(image.kind is ImageKind.MAIN for _, image in found.values())
        kinds = itertools.chain([] if has_main else [ImageKind.MAIN], itertools.repeat(ImageKind.OTHER))
        return [
            (line, image if image.kind is not None else replace(image, kind=next(kinds)))
            for line, image in found.values()
        ]


@dataclass(slots=True)
class _Batch:
    """Entries that are committed together, in the order of the source."""

    steps: list[_Run | DeleteRow] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    rows: int = 0
    line: int = 0
    share: float = 0.0

    def add(self, entry: Entry, share: float) -> None:
        if isinstance(entry, BadRow):
            self.bad.append(entry)
        elif isinstance(entry, DeleteRow):
            self.steps.append(entry)
        elif self.continues(entry):
            assert isinstance(self.steps[-1], _Run)
            self.steps[-1].rows.append(entry)
        else:
            self.steps.append(_Run([entry]))
        self.rows += 1
        self.line, self.share = entry.line, share

    def continues(self, entry: Entry) -> bool:
        """Say whether an entry belongs to the last product of this batch."""
        last = self.steps[-1] if self.steps else None
        return (
            isinstance(entry, Row)
            and isinstance(last, _Run)
            and last.product_id == entry.product.product_id
            and len(last.rows) < MAX_RUN_ROWS
        )


def _batches(entries: Iterator[tuple[Entry, float]], size: int) -> Iterator[_Batch]:
    """Yield batches of at least `size` rows that never part a run, so that no result depends on the batch size."""
    batch = _Batch()
    for entry, share in entries:
        if batch.rows >= size and not batch.continues(entry):
            yield batch
            batch = _Batch()
        batch.add(entry, share)
    if batch.rows:
        yield batch


# -- images on their way


@dataclass(slots=True)
class _Work:
    """A batch whose images are on their way; None stands for one that is in the catalogue unchanged."""

    batch: _Batch
    images: dict[int, list[Future[NewImage | SetAside] | None]]  # by position among the steps


def _prepared(
    batches: Iterable[_Batch], catalogue: Catalogue, pool: ThreadPoolExecutor, loader: ImageLoader
) -> Iterator[_Work]:
    """Yield batches in order while the images of the next are already being loaded.

    Nothing is prepared beyond a batch that deletes: what is in the catalogue is only known when it is committed.
    """
    ahead: deque[_Work] = deque()
    for batch in batches:
        while ahead and (len(ahead) > 1 or any(isinstance(step, DeleteRow) for step in ahead[-1].batch.steps)):
            yield ahead.popleft()
        ahead.append(_prepare(batch, catalogue, pool, loader))
    yield from ahead


def _prepare(batch: _Batch, catalogue: Catalogue, pool: ThreadPoolExecutor, loader: ImageLoader) -> _Work:
    known = catalogue.sources(None, {step.product_id for step in batch.steps if isinstance(step, _Run)})
    deleted: set[ProductId] = set()
    images: dict[int, list[Future[NewImage | SetAside] | None]] = {}
    for position, step in enumerate(batch.steps):
        if isinstance(step, DeleteRow):
            deleted.add(step.product_id)
            continue
        images[position] = []
        for line, image in step.images():
            signature = loader.signature(image)
            is_there = bool(signature) and known.get((step.product_id, image.name)) == signature
            images[position].append(
                None
                if is_there and step.product_id not in deleted
                else pool.submit(loader.load, line, step.product_id, image, signature)
            )
    return _Work(batch, images)


# -- batches into the catalogue


def _commit(work: _Work, catalogue: Catalogue, table: JobTable, job: Job, state: _State, *, full: bool) -> None:
    """Write a batch, what it set aside and how far the job is, in one transaction; wait for its images first."""
    batch = work.batch
    loaded = {
        position: [None if future is None else future.result() for future in futures]
        for position, futures in work.images.items()
    }
    aside = [SetAside(bad.line, bad.product_id, bad.reason, bad.detail) for bad in batch.bad]
    with write(table.engine) as connection:
        for deletes, steps in itertools.groupby(enumerate(batch.steps), lambda step: isinstance(step[1], DeleteRow)):
            if deletes:
                gone = [step for _, step in steps if isinstance(step, DeleteRow)]
                state.counts["deleted"] += _delete(catalogue, connection, gone)
            else:
                runs = [(step, loaded[position]) for position, step in steps if isinstance(step, _Run)]
                written = _upsert(catalogue, connection, runs, aside)
                state.counts.update(added=written.added, updated=written.updated, unchanged=written.unchanged)
        if full:
            named = {step.product_id for step in batch.steps} | {bad.product_id for bad in batch.bad} - {""}
            catalogue.mark_seen(connection, job.id, sorted(ProductId(product_id) for product_id in named))
        aside.sort(key=lambda row: row.line)
        catalogue.set_aside(connection, job.id, aside)
        rows = [row for step in batch.steps if isinstance(step, _Run) for row in step.rows]
        taken = sum(isinstance(image, NewImage) for images in loaded.values() for image in images)
        state.counts.update(read=batch.rows, images=taken, set_aside=len(aside))
        state.reasons.update(row.reason for row in aside)
        state.warnings.update(name for row in rows for name, _ in row.warnings)
        state.unreadable += sum(not bad.product_id for bad in batch.bad)
        room = FIRST_ERRORS - len(state.first_errors)
        state.first_errors += [f"line {row.line}: {row.reason}: {row.detail}" for row in aside[:room]]
        state.line, state.percent = batch.line, 100 * min(batch.share, 1.0)
        state.save(table, connection, job.id)
    for row in rows:
        for name, text in row.warnings:
            _log.debug("line %d: %s %r was dropped", row.line, name, text)


def _upsert(
    catalogue: Catalogue,
    connection: Connection,
    runs: Sequence[tuple[_Run, Sequence[NewImage | SetAside | None]]],
    aside: list[SetAside],
) -> Written:
    """Write runs of rows; a new product of which no image was taken is set aside."""
    stored = _stored(connection, {run.product_id for run, _ in runs})
    listings: dict[ProductId, Listing] = {}
    for run, images in runs:
        aside += [image for image in images if isinstance(image, SetAside)]
        taken = {image.name: image for image in images if isinstance(image, NewImage)}
        before = listings.get(run.product_id) or (Listing(stored[run.product_id]) if run.product_id in stored else None)
        if before is None and not taken and any(row.image_expected for row in run.rows):
            if not images:
                aside.append(SetAside(run.rows[0].line, run.product_id, "no image", "a new product needs an image"))
            continue
        earlier = {image.name: image for image in before.images} if before else {}
        product = overlay(before.product if before else Product(run.product_id), run.rows)
        listings[run.product_id] = Listing(product, tuple({**earlier, **taken}.values()))
    return catalogue.upsert(connection, list(listings.values()))


def _stored(connection: Connection, product_ids: set[ProductId]) -> dict[ProductId, Product]:
    found: dict[ProductId, Product] = {}
    ids = sorted(product_ids)
    for start in range(0, len(ids), 500):
        query = select(*PRODUCT_COLUMNS).where(products.c.product_id.in_(ids[start : start + 500]))
        found |= {row.product_id: product_of(row) for row in connection.execute(query)}
    return found


def _delete(catalogue: Catalogue, connection: Connection, rows: Sequence[DeleteRow]) -> int:
    for row in rows:
        if row.image_name:
            catalogue.delete_image(connection, row.product_id, row.image_name)
    return catalogue.delete_products(connection, [row.product_id for row in rows if not row.image_name])


def _delete_absent(
    catalogue: Catalogue,
    table: JobTable,
    job: Job,
    state: _State,
    confirm: Callable[[int, int], bool],
    progress: Progress,
) -> None:
    """Delete the products that a full feed did not name, unless rows were unreadable or `confirm` refuses."""
    count = sum(1 for _ in catalogue.absent_products(job.id))
    total = catalogue.counts().products
    if count and state.unreadable:
        state.withheld = (
            f"{count} of {total} products are not in the feed, but {state.unreadable} of its rows could not be read "
            "and may name them: none was deleted; correct the rows and import again"
        )
    elif count and not confirm(count, total):
        raise ConflictError(
            f"the feed lacks {count} of {total} products, more than may be deleted unasked; nothing was deleted. "
            "Check the feed; if it is complete, import it again and confirm the deletion"
        )
    else:
        for part in _parts(catalogue.absent_products(job.id), _DELETED_AT_ONCE):
            with write(table.engine) as connection:
                state.counts["deleted"] += catalogue.delete_products(connection, part)
                state.save(table, connection, job.id)
            progress(percent=state.percent, counts=state.counts)
    state.feed_ended = True
    with write(table.engine) as connection:
        catalogue.end_feed(connection, job.id)
        state.save(table, connection, job.id)


def _parts(product_ids: Iterable[ProductId], size: int) -> Iterator[list[ProductId]]:
    rest = iter(product_ids)
    while part := list(itertools.islice(rest, size)):
        yield part


def _write_error_file(catalogue: Catalogue, job_id: str, state: _State) -> None:
    """Write what was set aside, if anything, as a CSV file that spreadsheets open without running anything in it."""
    if not state.error_file:
        return
    path = Path(state.error_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("line", "product", "image", "reason", "detail"))
        after = 0
        while rows := catalogue.list_set_aside(job_id, after=after):
            after += len(rows)
            for row in rows:
                product, _, image = row.source.partition("\n")
                writer.writerow((row.line, *(_harmless(text) for text in (product, image, row.reason, row.detail))))
    unfinished.replace(path)


def _harmless(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
