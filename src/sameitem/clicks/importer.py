"""Import of a click log made elsewhere: its searches and events into our log, its photos into the store of queries.

A row's search id is derived from the row, so that whatever is imported a second time is known already; a killed import
goes on behind its last batch or starts again, and the log is the same.
"""

import csv
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import select

from sameitem.clicks.log import MAX_BATCH, ClickLog, Event, Search, Shown, searches
from sameitem.clicks.readers import BadLine, ClickRow, Entry, EventRow, read_clicks
from sameitem.core.boxes import scale_box
from sameitem.core.database import read, write
from sameitem.core.errors import (
    AccessError,
    ConflictError,
    ImageError,
    InputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from sameitem.core.image_intake import ImageIntake
from sameitem.core.jobs import FIRST_ERRORS, Job, JobTable, Progress
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import Box, CatalogueImage, ContentHash, ImageKind, Photo, ProductId
from sameitem.core.settings import ImportSettings

ImagesOf = Callable[[ProductId], Sequence[CatalogueImage]]
_HASH = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.\-]+:")  # one letter is a drive
_MAX_SPLITS = 8  # slashes of "product/image" at which the product id may end
_REMEMBERED = 20_000  # products whose images are kept at hand
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClickImport:
    """What an import did; counts include the part before an interruption."""

    sessions: int  # rows of the file whose search is in the log now
    events: int  # and their events
    repeated: int  # of these rows, those whose search was there before
    set_aside: int  # rows, shown entries, clicks, events and boxes that were not taken: the sum of the reasons
    reasons: Mapping[str, int]
    error_file: str  # CSV of what was set aside; "" = nothing was


def import_clicks(
    path: Path,
    *,
    columns: Mapping[str, str],
    images_of: ImagesOf,
    clicks: ClickLog,
    intake: ImageIntake,
    query_photos: PhotoStore,
    fetch: Callable[[str], bytes],
    table: JobTable,
    job: Job,
    settings: ImportSettings,
    max_file_bytes: int,
    errors_folder: Path,
    local_root: Path | None = None,
    on_progress: Callable[[float, Mapping[str, int]], None] | None = None,
) -> ClickImport:
    """Import a click log, going on where the same job was interrupted.

    A row whose photo cannot be had, or of whose list nothing is in the catalogue, is set aside as a whole; entries
    that are not in the catalogue are left out of the list, and the others keep their ranks.

    Args:
        path: JSON lines or Parquet (see `read_clicks`).
        columns: our field name -> the file's column name.
        images_of: the images of a product, oldest first; none when it is not in the catalogue.
        clicks: where searches and events go.
        intake: decodes the photos.
        query_photos: keeps the photos; those named by content hash must be there.
        fetch: downloads a URL, raising what `catalog.fetch.Fetcher.fetch` raises.
        table: holds the job, in the database of the log.
        job: the running job; its cursor tells where to go on.
        settings: batch size and downloads at once.
        max_file_bytes: bytes a photo's file may have.
        errors_folder: where `clicks-<job>.csv` is written when something was set aside.
        local_root: photos at absolute paths must lie inside, relative ones inside the log's folder; None forbids all
            local files (a stranger's log).
        on_progress: told percent and counts after each batch.

    Raises:
        NotFoundError: there is no such file.
        InputError: a file that cannot be read at all, or columns that it has not.
        ConflictError: the job was cancelled or taken over.
        UnavailableError: database, photo store or intake failed; what was committed is there.
    """
    state = _State.of(job, _fingerprint(path, columns), errors_folder / f"clicks-{job.id}.csv")
    photos = _Photos(path.parent, local_root, fetch, intake, query_photos, max_file_bytes)
    remembered = lru_cache(_REMEMBERED)(images_of)
    progress = Progress(table, job.id)
    rows = read_clicks(path, columns, after=state.line)
    with ThreadPoolExecutor(settings.fetch_workers, "import-clicks") as pool:
        while batch := list(islice(rows, settings.batch_rows)):
            known = _known(table, [row.search_id for row, _ in batch if isinstance(row, ClickRow)])
            work = [
                (
                    row,
                    pool.submit(photos.take, row) if isinstance(row, ClickRow) and row.search_id not in known else None,
                )
                for row, _ in batch
            ]
            aside: list[BadLine] = []
            events: list[tuple[int, Event]] = []
            for row, photo in work:
                session = _session(row, photo.result() if photo else None, remembered)
                if isinstance(session, _Session):
                    session = _record(clicks, session, state)
                if isinstance(session, BadLine):
                    aside.append(session)
                else:
                    events += [(row.line, event) for event in session.events]
                    aside += session.aside
            aside += _record_events(clicks, events, state)
            state.take(aside, line=batch[-1][0].line, percent=100 * min(batch[-1][1], 1.0))
            state.save(table, job.id)
            progress(percent=state.percent, counts=state.counts)
            if on_progress is not None:
                on_progress(state.percent, state.counts)
    _log.info("imported clicks of %s: %s", path.name, dict(state.counts))
    return state.report()


# -- how far the import is


@dataclass(slots=True)
class _State:
    fingerprint: str
    errors: Path
    line: int = 0
    percent: float = 0.0
    error_bytes: int = 0  # of the error file that belong to finished batches
    counts: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(("sessions", "events", "repeated", "set_aside"), 0))
    )
    reasons: Counter[str] = field(default_factory=Counter)
    first_errors: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, job: Job, fingerprint: str, errors: Path) -> "_State":
        state = cls(fingerprint, errors)
        if job.cursor.get("fingerprint") == fingerprint:
            state.line, state.percent = job.cursor["line"], job.percent
            state.error_bytes = job.cursor["error_bytes"]
            state.counts.update(job.counts)
            state.reasons.update(job.cursor["reasons"])
            state.first_errors = list(job.first_errors)
        return state

    def take(self, aside: Sequence[BadLine], *, line: int, percent: float) -> None:
        self.line, self.percent = line, percent
        self.counts["set_aside"] += len(aside)
        self.reasons.update(bad.reason for bad in aside)
        room = FIRST_ERRORS - len(self.first_errors)
        self.first_errors += [f"line {bad.line}: {bad.reason}: {bad.detail}" for bad in aside[:room]]
        if aside:
            self._write(sorted(aside, key=lambda bad: bad.line))

    def _write(self, aside: Sequence[BadLine]) -> None:
        """Append to the error file, over what a killed import may have left behind its last batch."""
        self.errors.parent.mkdir(parents=True, exist_ok=True)
        mode = "r+" if self.error_bytes and self.errors.is_file() else "w"
        with self.errors.open(mode, encoding="utf-8", errors="replace", newline="") as file:
            if mode == "w":
                file.write("\ufeff")
                csv.writer(file).writerow(("line", "reason", "detail"))
            else:
                file.seek(self.error_bytes)
                file.truncate()
            for bad in aside:
                csv.writer(file).writerow((bad.line, _harmless(bad.reason), _harmless(bad.detail)))
            self.error_bytes = file.tell()

    @property
    def error_file(self) -> str:
        return str(self.errors) if self.counts["set_aside"] else ""

    def save(self, table: JobTable, job_id: str) -> None:
        cursor = {
            "fingerprint": self.fingerprint,
            "line": self.line,
            "error_bytes": self.error_bytes,
            "reasons": dict(self.reasons),
        }
        with write(table.engine) as connection:
            table.checkpoint(
                connection,
                job_id,
                percent=self.percent,
                counts=dict(self.counts),
                cursor=cursor,
                first_errors=self.first_errors,
                error_file=self.error_file,
            )

    def report(self) -> ClickImport:
        return ClickImport(
            sessions=self.counts["sessions"],
            events=self.counts["events"],
            repeated=self.counts["repeated"],
            set_aside=self.counts["set_aside"],
            reasons=dict(sorted(self.reasons.items())),
            error_file=self.error_file,
        )


def _fingerprint(path: Path, columns: Mapping[str, str]) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise NotFoundError(f"{path.name} cannot be read: {error.strerror}; name a click log") from error
    said = (str(path.resolve()), status.st_size, status.st_mtime_ns, sorted(columns.items()))
    return hashlib.sha256(repr(said).encode("utf-8", "surrogatepass")).hexdigest()


def _harmless(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


# -- photos


@dataclass(frozen=True, slots=True)
class _Taken:
    """A photo that is in the store; as a `Photo` where it came in just now."""

    content_hash: ContentHash
    photo: Photo | None = None

    def place(self, box: Box) -> Box | None:
        """Return a box of the original on the stored photo, cut at its edges; None outside of it.

        A photo that was named by its hash was seen by nobody but the store: its boxes are on the stored photo.
        """
        if self.photo is None:
            return box
        photo = self.photo
        box = scale_box(box, photo.width / photo.original_width, photo.height / photo.original_height)
        right, bottom = min(box.right, float(photo.width)), min(box.bottom, float(photo.height))
        return Box(box.left, box.top, right, bottom) if box.left < right and box.top < bottom else None


@dataclass(frozen=True, slots=True)
class _Photos:
    """Takes the photos of rows into the store; safe to share between threads."""

    folder: Path
    local_root: Path | None
    fetch: Callable[[str], bytes]
    intake: ImageIntake
    store: PhotoStore
    max_file_bytes: int

    def take(self, row: ClickRow) -> _Taken | BadLine:
        if _HASH.fullmatch(row.photo):
            if self.store.has(ContentHash(row.photo)):
                return _Taken(ContentHash(row.photo))
            return BadLine(row.line, "photo missing", f"no photo {row.photo} in the store; give a path or URL")
        try:
            data = self.fetch(row.photo) if _URL.match(row.photo) else self._read(row.photo)
        except (InputError, NotFoundError, AccessError, UnavailableError) as error:  # here: of the download alone
            return BadLine(row.line, _reason(error), f"{row.photo[:300]}: {error}")
        try:
            photo = self.intake.take(data)
        except InputError as error:
            return BadLine(row.line, _reason(error), f"{row.photo[:300]}: {error}")
        self.store.put(photo)
        return _Taken(photo.content_hash, photo)

    def _read(self, location: str) -> bytes:
        if self.local_root is None:
            raise AccessError("an uploaded log may name http(s) URLs and content hashes only, not files of the server")
        name = location.replace("\\", "/")
        try:
            path = Path(unquote(name.removeprefix("file://")) if name.startswith("file://") else name)
            root = self.local_root if path.is_absolute() else self.folder
            real = (self.folder / path).resolve()
            if not real.is_relative_to(root.resolve()):
                raise AccessError(f"the path leads outside {root.name or root}; copy the photo beside the log")
            if not real.is_file():
                raise NotFoundError("no such file; paths start at the folder of the log")
            with real.open("rb") as file:
                data = file.read(self.max_file_bytes + 1)
        except (OSError, ValueError, RuntimeError) as error:
            raise NotFoundError("not a file that can be read; paths start at the folder of the log") from error
        if len(data) > self.max_file_bytes:
            raise TooLargeError(f"the file has more than the accepted {self.max_file_bytes:,} bytes")
        return data


def _reason(error: Exception) -> str:
    kinds: dict[type[Exception], str] = {
        TooLargeError: "photo too large",
        ImageError: "photo unreadable",
        InputError: "photo location",
        NotFoundError: "photo missing",
        AccessError: "photo refused",
        UnavailableError: "photo unavailable",
    }
    return next(name for kind, name in kinds.items() if isinstance(error, kind))


# -- rows into searches and events


@dataclass(frozen=True, slots=True)
class _Session:
    line: int
    search: Search
    is_new: bool  # as far as the log knew before this batch
    events: tuple[Event, ...]
    aside: tuple[BadLine, ...]


def _session(row: ClickRow | BadLine, taken: _Taken | BadLine | None, images_of: ImagesOf) -> _Session | BadLine:
    """Return a row as search and events, or why it is set aside; no photo is needed for what is in the log already."""
    if isinstance(row, BadLine):
        return row
    if isinstance(taken, BadLine):
        return taken
    aside = [BadLine(row.line, reason, detail) for reason, detail in row.dropped]
    shown: dict[int, Shown] = {}
    for place_in_list, entry in enumerate(row.shown, start=1):
        rank = entry.rank or place_in_list
        image = _find(entry, images_of)
        if image is None:
            aside.append(BadLine(row.line, "shown entry not in the catalogue", _name(entry)))
        elif rank in shown:
            aside.append(BadLine(row.line, "rank taken", f"{rank} {_name(entry)}"))
        else:
            shown[rank] = Shown(rank, image.product_id, image.name, image.image_id, 0.0)
    if not shown:
        return BadLine(row.line, "nothing shown is in the catalogue", ", ".join(map(_name, row.shown))[:300])
    events: dict[str, Event] = {}  # of several of a kind on one place the first
    for done in [*row.events, *(EventRow(entry, "click", None) for entry in row.clicked)]:
        place = _place(done.entry, shown, images_of)
        if place is None:
            is_there = _find(done.entry, images_of) is not None
            reason = "event on what was not shown" if is_there else "event on what is not in the catalogue"
            aside.append(BadLine(row.line, reason, f"{done.type} {_name(done.entry)}"))
        else:
            event = _event(row, done, place)
            events.setdefault(event.event_id, event)
    box = None if row.box is None or taken is None else taken.place(row.box)
    if row.box is not None and taken is not None and box is None:
        aside.append(BadLine(row.line, "box outside the photo", str(row.box)))
    search = Search(
        search_id=row.search_id,
        at=row.at,
        photo_hash="" if taken is None else taken.content_hash,
        box=box,
        category_id=row.category,
        index_version="",
        model_version="",
        user_id=row.user,
        session_id="",
        shown=tuple(shown[rank] for rank in sorted(shown)),
    )
    return _Session(row.line, search, taken is not None, tuple(events.values()), tuple(aside))


def _event(row: ClickRow, done: EventRow, place: Shown) -> Event:
    return Event(
        event_id=f"{row.search_id}-{done.type}-{place.rank}",
        search_id=row.search_id,
        type=done.type,
        product_id=place.product_id,
        image_name=place.image_name,
        rank=place.rank,
        user_id=row.user,
        ts=row.at if done.at is None else done.at,
    )


def _find(entry: Entry, images_of: ImagesOf) -> CatalogueImage | None:
    """Return the image that an entry names; of a product alone, its main image."""
    if entry.image_name is not None:
        return _named(ProductId(entry.text), entry.image_name, images_of)
    parts = entry.text.split("/")
    for end in range(1, min(len(parts), _MAX_SPLITS + 1)):
        image = _named(ProductId("/".join(parts[:end])), "/".join(parts[end:]), images_of)
        if image is not None:
            return image
    images = images_of(ProductId(entry.text))
    return next((image for image in images if image.kind is ImageKind.MAIN), images[0] if images else None)


def _named(product_id: ProductId, name: str, images_of: ImagesOf) -> CatalogueImage | None:
    return next((image for image in images_of(product_id) if image.name == name), None)


def _place(entry: Entry, shown: Mapping[int, Shown], images_of: ImagesOf) -> Shown | None:
    """Return the place of an entry in a list: of its image, else the first of its product."""
    image = _find(entry, images_of)
    if image is None:
        return None
    of_product = [place for place in shown.values() if place.product_id == image.product_id]
    same = [place for place in of_product if place.image_name == image.name]
    return next(iter([*same, *of_product]), None)


def _name(entry: Entry) -> str:
    return entry.text[:200] if entry.image_name is None else f"{entry.text[:200]} {entry.image_name[:200]}"


# -- into the log


def _known(table: JobTable, search_ids: Sequence[str]) -> set[str]:
    """Return which of the searches are in the log."""
    with read(table.engine) as connection:
        return set(connection.scalars(select(searches.c.search_id).where(searches.c.search_id.in_(search_ids))))


def _record(clicks: ClickLog, session: _Session, state: _State) -> _Session | BadLine:
    """Record a search, unless it is in the log, and return it; or why it cannot be."""
    is_new = session.is_new
    if is_new:
        try:
            clicks.record_search(session.search)
        except ConflictError:  # the file holds the row twice
            is_new = False
        except InputError as error:
            return BadLine(session.line, "row refused", str(error))
    state.counts["sessions"] += 1
    state.counts["repeated"] += not is_new
    return session


def _record_events(clicks: ClickLog, events: Sequence[tuple[int, Event]], state: _State) -> list[BadLine]:
    """Record events; return those that the log refused."""
    refused: list[BadLine] = []
    for start in range(0, len(events), MAX_BATCH):
        part = events[start : start + MAX_BATCH]
        counts = clicks.record_events([event for _, event in part])
        state.counts["events"] += counts.stored + counts.repeated
        refused += [BadLine(part[event.index][0], "event refused", event.reason) for event in counts.refused]
    return refused
