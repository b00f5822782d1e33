"""Long commands as jobs: a table that survives its runner, and one runner process at a time.

Who runs a job holds the runner lock, which the kernel (or PostgreSQL) frees when that process dies, however it dies.
So a job that is "running" while the lock is free was left behind, and whoever gets the lock goes on from its cursor.
A runner's child processes must not be forked copies of it (use spawn): a copy would keep the lock.
"""

import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Row,
    Table,
    insert,
    or_,
    select,
    text,
    update,
)

from sameitem.core.database import NUMBER, TEXT, metadata, read, storable, write
from sameitem.core.errors import ConflictError, InputError, NotFoundError, SameItemError

State = Literal["queued", "running", "done", "failed", "cancelled"]
Work = Callable[["Job", "Progress"], Mapping[str, Any]]  # returns the job's result
FIRST_ERRORS = 20  # error texts kept in the table; the others stand in the error file
POLL_S = 0.2  # how often a waiting process looks again, and a running one reports at most
_RUNNER_LOCK = 0x53414D45_00000002  # advisory lock key: "SAME", 2
_log = logging.getLogger(__name__)

jobs = Table(
    "jobs",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),  # the order of submission
    Column("id", TEXT, nullable=False),
    Column("kind", TEXT, nullable=False),
    Column("arguments", TEXT, nullable=False),  # JSON object, keys sorted; so are the others
    Column("state", TEXT, nullable=False),
    Column("owner", TEXT, nullable=False),  # which run holds it: a run that lost its lock can write no more
    Column("cancel_requested", Boolean, nullable=False),
    Column("percent", Double, nullable=False),
    Column("counts", TEXT, nullable=False),
    Column("first_errors", TEXT, nullable=False),
    Column("error_file", TEXT, nullable=False),
    Column("error", TEXT, nullable=False),
    Column("cursor", TEXT, nullable=False),
    Column("result", TEXT, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("updated_at", Double, nullable=False),
    Column("finished_at", Double),
    Index("jobs_id", "id", unique=True),
    Index("jobs_state", "state", "number"),
    sqlite_autoincrement=True,
)


class Cancelled(ConflictError):
    """The job was asked to stop; raised by its next report of progress."""


@dataclass(frozen=True, slots=True)
class Job:
    """A long command: what was asked, how far it is, what came of it. Times are seconds since 1970."""

    id: str
    kind: str
    arguments: dict[str, Any]
    state: State
    cancel_requested: bool
    percent: float  # 0..100
    counts: dict[str, int]
    first_errors: list[str]
    error_file: str  # "" = none
    error: str  # why it failed
    cursor: dict[str, Any]  # where to go on; {} = at the beginning
    result: dict[str, Any]  # of a failed one: error_class, where the error is one of ours
    created_at: float
    started_at: float | None
    updated_at: float
    finished_at: float | None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed", "cancelled")


class JobTable:
    """The jobs of a shop. One object serves one process; it signs what that process writes."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self._clock = clock
        self._owner = secrets.token_hex(8)

    def submit(self, kind: str, arguments: Mapping[str, Any]) -> Job:
        """Queue a job.

        Raises:
            InputError: arguments that JSON cannot hold.
        """
        job_id, now = secrets.token_hex(8), self._clock()
        row = {
            "id": job_id,
            "kind": kind,
            "arguments": _json(arguments),
            "state": "queued",
            "owner": "",
            "cancel_requested": False,
            "percent": 0.0,
            "counts": "{}",
            "first_errors": "[]",
            "error_file": "",
            "error": "",
            "cursor": "{}",
            "result": "{}",
            "created_at": now,
            "updated_at": now,
        }
        with write(self.engine) as connection:
            connection.execute(insert(jobs), row)
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFoundError: there is none with this id.
        """
        with read(self.engine) as connection:
            return _get(connection, job_id)

    def pending(self, kinds: Sequence[str]) -> list[Job]:
        """Return the queued and running jobs of these kinds, in the order of submission."""
        query = select(jobs).where(jobs.c.state.in_(["queued", "running"]), jobs.c.kind.in_(kinds))
        with read(self.engine) as connection:
            return [_job_of(row) for row in connection.execute(query.order_by(jobs.c.number))]

    def list(
        self, limit: int = 50, *, start: int = 0, states: Sequence[State] = (), kinds: Sequence[str] = ()
    ) -> list[Job]:
        """Return the newest jobs, newest first: after `start` others, of any of these states and kinds, () = all."""
        query = select(jobs).order_by(jobs.c.number.desc()).offset(start).limit(limit)
        if states:
            query = query.where(jobs.c.state.in_(states))
        if kinds:
            query = query.where(jobs.c.kind.in_(kinds))
        with read(self.engine) as connection:
            return [_job_of(row) for row in connection.execute(query)]

    def unfinished(self, kind: str, arguments: Mapping[str, Any]) -> Job | None:
        """Return the oldest queued or running job of this kind and these arguments, to go on with instead of anew."""
        query = (
            select(jobs)
            .where(jobs.c.state.in_(["queued", "running"]), jobs.c.kind == kind)
            .where(jobs.c.arguments == _json(arguments))
            .order_by(jobs.c.number)
        )
        with read(self.engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else _job_of(row)

    def request_cancel(self, job_id: str) -> Job:
        """Cancel a queued job at once, a running one at its next report.

        Raises:
            NotFoundError: there is none with this id.
            ConflictError: it has finished.
        """
        with write(self.engine) as connection:
            job = _get(connection, job_id)
            if job.is_finished:
                raise ConflictError(
                    f"job {job_id} is {job.state} already; only a queued or running job can be cancelled"
                )
            now = self._clock()
            values: dict[str, Any] = {"cancel_requested": True, "updated_at": now}
            if job.state == "queued":
                values |= {"state": "cancelled", "finished_at": now}
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
            return _get(connection, job_id)

    def checkpoint(
        self,
        connection: Connection,
        job_id: str,
        *,
        percent: float,
        counts: Mapping[str, int],
        cursor: Mapping[str, Any],
        first_errors: Sequence[str] | None = None,
        error_file: str | None = None,
    ) -> None:
        """Write how far a job is into the caller's transaction, to be committed with what it did.

        Raises:
            ConflictError: another runner has taken the job over; the transaction must not be committed.
        """
        values = _reported(percent, counts, first_errors, error_file) | {"cursor": _json(cursor)}
        self._update(connection, job_id, values)

    def progress(
        self,
        job_id: str,
        *,
        percent: float,
        counts: Mapping[str, int],
        first_errors: Sequence[str] | None = None,
        error_file: str | None = None,
    ) -> None:
        """Write how far a job is, in a transaction of its own.

        Raises:
            Cancelled: somebody asked for that.
            ConflictError: another runner has taken the job over.
        """
        with write(self.engine) as connection:
            self._update(connection, job_id, _reported(percent, counts, first_errors, error_file))
            cancel = _get(connection, job_id).cancel_requested
        if cancel:
            raise Cancelled(f"job {job_id} was cancelled")

    def start(self, job_id: str) -> Job | None:
        """Mark a job as running here and return it; None when it has finished. Only under the runner lock."""
        with write(self.engine) as connection:
            job = _get(connection, job_id)
            if job.is_finished:
                return None
            now = self._clock()
            values: dict[str, Any] = {"state": "running", "owner": self._owner, "updated_at": now}
            if job.started_at is None:
                values["started_at"] = now
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
            return _get(connection, job_id)

    def finish(self, job_id: str, result: Mapping[str, Any]) -> None:
        """Mark a job as done."""
        self._end(job_id, {"state": "done", "percent": 100.0, "result": _json(result)})

    def fail(self, job_id: str, error: str, *, error_class: str = "") -> None:
        """Mark a job as failed, with the reason, and with the class in `core.errors` that a follower raises again."""
        result = {"error_class": error_class} if error_class else {}
        self._end(job_id, {"state": "failed", "error": storable(error), "result": _json(result)})

    def cancelled(self, job_id: str) -> None:
        """Mark a job as cancelled."""
        self._end(job_id, {"state": "cancelled"})

    def waiting(self, kinds: Sequence[str]) -> Job | None:
        """Return the job of these kinds to run next: one left running first, then the oldest queued."""
        query = (
            select(jobs)
            .where(jobs.c.state.in_(["queued", "running"]), jobs.c.kind.in_(kinds))
            .order_by(jobs.c.state.desc(), jobs.c.number)  # "running" sorts after "queued"
        )
        with read(self.engine) as connection:
            row = connection.execute(query.limit(1)).first()
        return None if row is None else _job_of(row)

    def _end(self, job_id: str, values: dict[str, Any]) -> None:
        with write(self.engine) as connection:
            self._update(connection, job_id, values | {"finished_at": self._clock()})

    def _update(self, connection: Connection, job_id: str, values: dict[str, Any]) -> None:
        mine = or_(jobs.c.owner == self._owner, jobs.c.owner == "")
        done = connection.execute(
            update(jobs).where(jobs.c.id == job_id, mine).values(values | {"updated_at": self._clock()})
        )
        if done.rowcount == 0:
            _get(connection, job_id)
            raise ConflictError(f"job {job_id} was taken over by another process; this one stops")


class Progress:
    """What a job's work reports through."""

    def __init__(self, table: JobTable, job_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._job_id = job_id
        self._clock = clock
        self._last = -POLL_S

    def __call__(self, *, percent: float, counts: Mapping[str, int] | None = None) -> None:
        """Tell how far the work is; may be called often, it writes a few times a second.

        Raises:
            Cancelled: somebody asked for that; let it pass.
        """
        now = self._clock()
        if now - self._last >= POLL_S:
            self._last = now
            self._table.progress(self._job_id, percent=percent, counts=counts or {})

    def checkpoint(
        self, connection: Connection, *, percent: float, counts: Mapping[str, int], cursor: Mapping[str, Any]
    ) -> None:
        """Write into the caller's transaction where the work goes on should it be killed now."""
        self._table.checkpoint(connection, self._job_id, percent=percent, counts=counts, cursor=cursor)


def run_job(
    table: JobTable, job_id: str, work: Mapping[str, Work], *, waiting: Callable[[Job], None] | None = None
) -> Job:
    """Run one job to its end here, or wait while another process runs it; return it finished.

    Args:
        table: where the job is.
        job_id: which one.
        work: what to do for each kind of job.
        waiting: told a few times a second how the job is while another runner is busy.

    Raises:
        NotFoundError: there is no such job.
        SameItemError: what the work raised; the job is then failed. Interrupted work stays "running" and is resumed
            by the next runner.
    """
    while True:
        with _runner_lock(table.engine) as held:
            if held:
                job = table.start(job_id)
                return table.get(job_id) if job is None else _run(table, job, work)
        job = table.get(job_id)
        if job.is_finished:
            return job
        if waiting is not None:
            waiting(job)
        time.sleep(POLL_S)


def run_jobs(table: JobTable, work: Mapping[str, Work]) -> int:
    """Run all waiting jobs of the kinds in `work`, those left behind first; return how many ended here.

    Returns 0 at once when another process is running jobs. A job that fails does not stop the next.
    """
    ended = 0
    with _runner_lock(table.engine) as held:
        while held and (found := table.waiting(list(work))) is not None:
            job = table.start(found.id)
            if job is not None:
                try:
                    _run(table, job, work)
                except SameItemError as error:
                    _log.warning("job %s (%s) failed: %s", job.id, job.kind, error)
                except Exception:
                    _log.exception("job %s (%s) failed", job.id, job.kind)
                ended += 1
    return ended


def _run(table: JobTable, job: Job, work: Mapping[str, Work]) -> Job:
    try:
        if job.cancel_requested:
            raise Cancelled(f"job {job.id} was cancelled")
        if job.kind not in work:
            raise ConflictError(f"job {job.id} is of kind {job.kind!r}, which is not run here: {sorted(work)}")
        table.finish(job.id, work[job.kind](job, Progress(table, job.id)))
    except Cancelled:
        table.cancelled(job.id)
    except SameItemError as error:
        known = next(kind for kind in type(error).__mro__ if kind.__module__ == SameItemError.__module__)
        table.fail(job.id, str(error), error_class=known.__name__)
        raise
    except Exception as error:
        table.fail(job.id, f"internal error ({type(error).__name__}); the log has the details")
        raise
    return table.get(job.id)


@contextmanager
def _runner_lock(engine: Engine) -> Iterator[bool]:
    """Tell whether this is now the one runner; it stays so to the end of the block."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            held = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _RUNNER_LOCK}))
            try:
                yield held
            finally:
                if held:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _RUNNER_LOCK})
        return
    descriptor = os.open(f"{engine.url.database}-runner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _get(connection: Connection, job_id: str) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.id == storable(job_id))).first()
    if row is None:
        raise NotFoundError(f"no job {job_id!r}; list the jobs for the ids there are")
    return _job_of(row)


def _job_of(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        arguments=json.loads(row.arguments),
        state=row.state,
        cancel_requested=row.cancel_requested,
        percent=row.percent,
        counts=json.loads(row.counts),
        first_errors=json.loads(row.first_errors),
        error_file=row.error_file,
        error=row.error,
        cursor=json.loads(row.cursor),
        result=json.loads(row.result),
        created_at=row.created_at,
        started_at=row.started_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
    )


def _reported(
    percent: float, counts: Mapping[str, int], first_errors: Sequence[str] | None, error_file: str | None
) -> dict[str, Any]:
    values: dict[str, Any] = {"percent": min(100.0, max(0.0, float(percent))), "counts": _json(counts)}
    if first_errors is not None:
        values["first_errors"] = json.dumps([storable(error) for error in first_errors[:FIRST_ERRORS]])
    if error_file is not None:
        values["error_file"] = storable(error_file)
    return values


def _json(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(values), sort_keys=True, allow_nan=False)  # ASCII: every database holds it
    except (TypeError, ValueError) as error:
        raise InputError(f"a job keeps what JSON can hold: text, numbers, lists, objects; {error}") from error
