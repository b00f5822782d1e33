"""What a loop says of itself: `loops/<id>/report.json` for programs and the next loop, `report.html` for people."""

import json
import logging
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from sameitem.core.durable import publish, synced
from sameitem.core.errors import ConflictError, NotFoundError
from sameitem.engine.versions import NAME

LOOPS, DATA, PAGE = "loops", "report.json", "report.html"
FORMAT = 1
HISTORY = 60  # earlier loops that a page looks back on
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one step."""

    name: str
    state: Literal["done", "nothing to do", "failed"]
    reason: str  # why there was nothing to do, what failed, or what was decided
    seconds: float
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A model that was trained, and what was decided about it."""

    before: str  # the version it was trained from or compared with
    version: str
    published: bool
    reason: str
    metrics: Mapping[str, Any]  # of the training
    gate: Mapping[str, Any] | None  # passed, reasons, not_judged, comparison; None: it did not come so far
    canary: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class LoopReport:
    """What a loop did, decided and left."""

    id: str  # time of its job; names sort by time
    started: str
    seconds: float
    published: bool  # a new embedding or ranker is live
    reason: str
    steps: tuple[Step, ...]
    embedding: Verdict | None  # None: none was trained
    ranker: Verdict | None
    live: Mapping[str, str | None]  # index, model, ranker when it ended
    traffic: Mapping[str, Any]  # searches, clicked, click_through, low, high since the loop before
    warnings: tuple[str, ...]
    marks: Mapping[str, Any]  # for the next loop: places in the click log, trainings without the detector

    def as_json(self) -> dict[str, Any]:
        """Return it as the command line and REST show it."""
        return asdict(self)


def write_report(folder: Path, report: LoopReport, page: str, *, keep: int) -> None:
    """Put a report beside the earlier ones, whole or not at all, and remove all but the newest.

    Args:
        folder: of the shop.
        report: one of the same id, of a run that was killed after it, is replaced.
        page: the same for people, HTML.
        keep: how many stay.
    """
    root = folder / LOOPS
    root.mkdir(exist_ok=True)
    for leftover in root.glob(".*/"):
        shutil.rmtree(leftover)
    draft = root / f".{report.id}.{secrets.token_hex(4)}"
    draft.mkdir()
    for name, text in (
        (DATA, json.dumps({"format": FORMAT} | report.as_json(), indent=1, allow_nan=False)),
        (PAGE, page),
    ):
        with synced(draft / name) as file:
            file.write(text.encode())
    if (root / report.id).exists():
        (root / report.id).rename(root / f".{report.id}.replaced")
    publish(draft, root / report.id)
    for old in (*_newest_first(folder)[keep:], f".{report.id}.replaced"):
        shutil.rmtree(root / old, ignore_errors=True)


def read_report(folder: Path, loop_id: str) -> LoopReport:
    """Read the report of a loop.

    Args:
        folder: of the shop.
        loop_id: of the loop.

    Raises:
        NotFoundError: there is none, or it was removed.
        ConflictError: it is damaged, or of another format.
    """
    path = _folder(folder, loop_id) / DATA
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ConflictError(f'{LOOPS}/{loop_id}/{DATA} has no "format": {FORMAT}, the one this release reads')
        return TypeAdapter(LoopReport).validate_python(content)
    except (OSError, ValueError) as error:
        raise ConflictError(f"{LOOPS}/{loop_id}/{DATA} is damaged; remove the folder {LOOPS}/{loop_id}") from error


def read_page(folder: Path, loop_id: str) -> bytes:
    """Read the page of a loop.

    Raises:
        NotFoundError: there is none, or it was removed.
    """
    try:
        return (_folder(folder, loop_id) / PAGE).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"loop {loop_id} has no page") from error


def page_path(folder: Path, loop_id: str) -> Path:
    """Return where the page of a loop lies."""
    return folder / LOOPS / loop_id / PAGE


def reports(folder: Path, *, besides: str = "") -> Iterator[LoopReport]:
    """Yield the reports of a shop, newest first; damaged ones are passed over.

    Args:
        folder: of the shop.
        besides: id of a loop that is left out.
    """
    for name in _newest_first(folder):
        if name != besides:
            try:
                yield read_report(folder, name)
            except (ConflictError, NotFoundError) as error:
                _log.warning("%s", error)


def _newest_first(folder: Path) -> list[str]:
    return sorted((path.name for path in (folder / LOOPS).glob("*/") if NAME.fullmatch(path.name)), reverse=True)


def _folder(folder: Path, loop_id: str) -> Path:
    path = folder / LOOPS / loop_id
    if not re.fullmatch(NAME, loop_id) or not path.is_dir():
        raise NotFoundError(f"no loop {loop_id[:40]!r}; `sameitem loop` runs one, GET /v1/loops lists those that ran")
    return path
