import os
import random
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select

from sameitem.catalog.tables import set_aside
from sameitem.core.database import open_database, read, write
from sameitem.core.errors import ConflictError, InputError, NotFoundError, RefusedError
from sameitem.core.jobs import FIRST_ERRORS, Job, JobTable, Progress, run_job, run_jobs

KILLS = int(os.environ.get("SAMEITEM_TEST_KILLS", "10"))  # `make endurance` asks for more


def done(job: Job, progress: Progress) -> Mapping[str, Any]:
    return {"answer": job.arguments.get("question", 0)}


def test_a_job_is_queued_run_and_done(engine: Engine) -> None:
    times = iter(range(100, 200))
    table = JobTable(engine, clock=lambda: float(next(times)))
    job = table.submit("import", {"question": 42})
    assert (job.state, job.percent, job.cursor, job.started_at) == ("queued", 0.0, {}, None)
    finished = run_job(table, job.id, {"import": done})
    assert (finished.state, finished.percent, finished.result) == ("done", 100.0, {"answer": 42})
    assert finished.started_at is not None
    assert finished.finished_at is not None
    assert job.created_at < finished.started_at < finished.finished_at <= finished.updated_at
    assert table.get(job.id) == finished
    assert table.list() == [finished]


def test_running_a_finished_job_returns_it_unchanged(engine: Engine) -> None:
    table = JobTable(engine)
    finished = run_job(table, table.submit("import", {}).id, {"import": done})
    assert run_job(table, finished.id, {}) == finished


@pytest.mark.parametrize("unknown", ["nothing", "", "a\0", "\ud800"])
def test_an_unknown_job_is_not_found(engine: Engine, unknown: str) -> None:
    table = JobTable(engine)
    for ask in (table.get, table.request_cancel, table.start):
        with pytest.raises(NotFoundError):
            ask(unknown)
    with pytest.raises(NotFoundError):
        run_job(table, unknown, {})


def test_an_unfinished_job_is_found_by_kind_and_arguments_in_any_order(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("import", {"source": "商品.csv", "full": True})
    table.submit("import", {"source": "商品.csv", "full": False})
    assert table.unfinished("import", {"full": True, "source": "商品.csv"}) == job
    assert table.unfinished("build", {"full": True, "source": "商品.csv"}) is None
    run_job(table, job.id, {"import": done})
    assert table.unfinished("import", {"full": True, "source": "商品.csv"}) is None


def test_pending_jobs_are_those_of_the_kinds_that_wait_or_run_oldest_first(engine: Engine) -> None:
    table = JobTable(engine)
    jobs = [table.submit(kind, {}) for kind in ("train", "build", "compare", "train", "train")]
    table.start(jobs[3].id)
    table.request_cancel(jobs[4].id)
    assert [job.id for job in table.pending(["train", "compare"])] == [jobs[n].id for n in (0, 2, 3)]


class Absent(NotFoundError):
    """An error class of another module."""


def test_a_failed_job_says_which_of_our_errors_ended_it(engine: Engine) -> None:
    table = JobTable(engine)

    def fail(_job: Job, _progress: Progress) -> Mapping[str, Any]:
        raise Absent("no file")

    job = table.submit("import", {})
    with pytest.raises(Absent):
        run_job(table, job.id, {"import": fail})
    assert table.get(job.id).result == {"error_class": "NotFoundError"}


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}])
def test_arguments_that_json_cannot_hold_are_refused(engine: Engine, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        JobTable(engine).submit("import", bad)
    assert JobTable(engine).list() == []


def test_texts_that_no_database_holds_are_kept_as_arguments(engine: Engine) -> None:
    arguments = {"source": "a\0\ud800"}
    assert JobTable(engine).submit("import", arguments).arguments == arguments


# -- progress


def test_progress_and_first_errors_can_be_followed(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("import", {})
    errors = [f"row {number}\0" for number in range(100)]
    table.progress(job.id, percent=250, counts={"read": 3}, first_errors=errors, error_file="errors.csv")
    seen = table.get(job.id)
    assert (seen.percent, seen.counts, seen.error_file) == (100.0, {"read": 3}, "errors.csv")
    assert seen.first_errors == [f"row {number}�" for number in range(FIRST_ERRORS)]
    table.progress(job.id, percent=-1, counts={})
    assert replace(table.get(job.id), updated_at=0) == replace(seen, percent=0.0, counts={}, updated_at=0)


def test_a_checkpoint_is_kept_with_the_transaction_it_is_part_of_or_not_at_all(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("import", {})
    with write(engine) as connection:
        table.checkpoint(connection, job.id, percent=10, counts={"read": 1}, cursor={"line": 1})

    def fail() -> None:
        with write(engine) as connection:
            table.checkpoint(connection, job.id, percent=20, counts={"read": 2}, cursor={"line": 2})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (table.get(job.id).percent, table.get(job.id).cursor) == (10.0, {"line": 1})


def test_progress_told_often_is_written_a_few_times_a_second(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("import", {})
    now = [0.0]
    progress = Progress(table, job.id, clock=lambda: now[0])
    written = []
    for tick in range(10):
        now[0] = tick / 16
        progress(percent=tick, counts={"tick": tick})
        written.append(table.get(job.id).counts["tick"])
    assert written == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]


# -- failing


def refused(job: Job, progress: Progress) -> Mapping[str, Any]:
    raise RefusedError("recall 0.99 is below 0.999")


def buggy(job: Job, progress: Progress) -> Mapping[str, Any]:
    return {"secret": 1 / 0}


def interrupted(job: Job, progress: Progress) -> Mapping[str, Any]:
    raise KeyboardInterrupt


def test_a_job_that_is_refused_fails_with_the_reason(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("build", {})
    with pytest.raises(RefusedError):
        run_job(table, job.id, {"build": refused})
    failed = table.get(job.id)
    assert (failed.state, failed.error, failed.finished_at is not None) == (
        "failed",
        "recall 0.99 is below 0.999",
        True,
    )


def test_a_bug_fails_the_job_without_telling_its_insides(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("build", {})
    with pytest.raises(ZeroDivisionError):
        run_job(table, job.id, {"build": buggy})
    assert table.get(job.id).error == "internal error (ZeroDivisionError); the log has the details"


def test_an_interrupted_job_goes_on_from_its_cursor(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("import", {})

    def stop_halfway(job: Job, progress: Progress) -> Mapping[str, Any]:
        with write(engine) as connection:
            progress.checkpoint(connection, percent=50, counts={"read": 5}, cursor={"line": 5})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(table, job.id, {"import": stop_halfway})
    left = table.get(job.id)
    assert (left.state, left.cursor) == ("running", {"line": 5})
    assert table.unfinished("import", {}) == left

    def go_on(job: Job, progress: Progress) -> Mapping[str, Any]:
        return {"from": job.cursor["line"], "read": job.counts["read"]}

    assert run_job(JobTable(engine), job.id, {"import": go_on}).result == {"from": 5, "read": 5}


# -- cancelling


def test_a_queued_job_is_cancelled_at_once(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("import", {})
    assert table.request_cancel(job.id).state == "cancelled"
    assert run_jobs(table, {"import": done}) == 0
    with pytest.raises(ConflictError, match="is cancelled"):
        table.request_cancel(job.id)


def test_a_running_job_is_cancelled_at_its_next_report_and_keeps_what_it_did(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("import", {})
    reports = []

    def work(job: Job, progress: Progress) -> Mapping[str, Any]:
        table.progress(job.id, percent=1, counts={"read": 1})
        assert JobTable(engine).request_cancel(job.id).state == "running"
        table.progress(job.id, percent=2, counts={"read": 2})
        reports.append("not reached")
        return {}

    cancelled = run_job(table, job.id, {"import": work})
    assert (cancelled.state, cancelled.counts, cancelled.result) == ("cancelled", {"read": 2}, {})
    assert cancelled.finished_at is not None
    assert reports == []


def test_a_job_cancelled_after_its_runner_died_is_cancelled_when_resumed(engine: Engine) -> None:
    table = JobTable(engine)
    job = table.submit("import", {})
    with pytest.raises(KeyboardInterrupt):
        run_job(table, job.id, {"import": interrupted})
    table.request_cancel(job.id)
    assert run_job(table, job.id, {"import": done}).state == "cancelled"


# -- one runner at a time


def test_waiting_jobs_run_in_order_after_those_left_behind_and_a_failure_stops_none(engine: Engine) -> None:
    table = JobTable(engine)
    ran: list[int] = []

    def note(job: Job, progress: Progress) -> Mapping[str, Any]:
        ran.append(job.arguments["number"])
        if job.arguments["number"] == 1:
            raise RefusedError("no")
        if job.arguments["number"] == 2:
            raise ZeroDivisionError
        return {}

    jobs = [table.submit("note", {"number": number}) for number in range(5)]
    other = table.submit("unknown here", {})
    with pytest.raises(KeyboardInterrupt):
        run_job(table, jobs[3].id, {"note": interrupted})
    assert run_jobs(table, {"note": note}) == 5
    assert ran == [3, 0, 1, 2, 4]
    assert [table.get(job.id).state for job in jobs] == ["done", "failed", "failed", "done", "done"]
    assert table.get(other.id).state == "queued"


def test_while_one_process_runs_jobs_no_other_does(engine: Engine) -> None:
    table, other = JobTable(engine), JobTable(engine)
    other.submit("second", {})
    ran_beside = []

    def work(job: Job, progress: Progress) -> Mapping[str, Any]:
        ran_beside.append(run_jobs(other, {"second": done}))
        return {}

    run_job(table, table.submit("first", {}).id, {"first": work})
    assert ran_beside == [0]
    assert run_jobs(other, {"second": done}) == 1


def test_who_wants_a_job_that_another_runs_waits_and_is_told_how_it_goes(engine: Engine) -> None:
    table, other = JobTable(engine), JobTable(engine)
    job = table.submit("import", {})
    started, seen_waiting = threading.Event(), threading.Event()
    seen: list[Job] = []

    def work(job: Job, progress: Progress) -> Mapping[str, Any]:
        progress(percent=50, counts={"read": 5})
        started.set()
        assert seen_waiting.wait(30)
        return {"by": "the first"}

    def watch(job: Job) -> None:
        seen.append(job)
        seen_waiting.set()

    runner = threading.Thread(target=run_job, args=(table, job.id, {"import": work}))
    runner.start()
    assert started.wait(30)
    finished = run_job(other, job.id, {"import": done}, waiting=watch)
    runner.join()
    assert finished.result == {"by": "the first"}
    assert (seen[0].state, seen[0].percent, seen[0].counts) == ("running", 50.0, {"read": 5})


def test_a_runner_that_lost_its_job_can_commit_nothing_more(engine: Engine) -> None:
    first, second = JobTable(engine), JobTable(engine)
    job = first.submit("import", {})
    first.start(job.id)
    second.start(job.id)  # as after the server dropped the connection that held the first one's lock
    for attempt in (
        lambda: first.progress(job.id, percent=1, counts={}),
        lambda: first.finish(job.id, {}),
        lambda: first.fail(job.id, "no"),
    ):
        with pytest.raises(ConflictError, match="taken over"):
            attempt()
    with pytest.raises(ConflictError, match="taken over"), write(engine) as connection:
        first.checkpoint(connection, job.id, percent=1, counts={}, cursor={})
    second.finish(job.id, {"by": "second"})
    assert second.get(job.id).result == {"by": "second"}


# -- killed

RUN = """
import sys
from sameitem.catalog.store import Catalogue, SetAside
from sameitem.core.database import open_database, write
from sameitem.core.jobs import JobTable, run_job

engine = open_database(sys.argv[1])
table, catalogue = JobTable(engine), Catalogue(engine)

def work(job, progress):
    line = job.cursor.get("line", 0)
    while line < job.arguments["lines"]:
        line += 1
        with write(engine) as connection:
            catalogue.set_aside(connection, job.id, [SetAside(line, "", "", "")])
            progress.checkpoint(connection, percent=line, counts={"read": line}, cursor={"line": line})
        print(line, flush=True)
        progress(percent=line, counts={"read": line})
    return {"read": line}

run_job(table, sys.argv[2], {"count": work})
"""


@pytest.mark.slow
def test_a_runner_killed_at_any_moment_loses_nothing_it_acknowledged_and_repeats_nothing(database_url: str) -> None:
    engine = open_database(database_url)
    table = JobTable(engine)
    chance = random.Random(0)
    lines = 20 * KILLS
    job = table.submit("count", {"lines": lines})
    command = [sys.executable, "-c", RUN, database_url, job.id]
    for _ in range(KILLS):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runner:
            assert runner.stdout is not None
            acknowledged = 0
            for _ in range(chance.randrange(1, 12)):
                acknowledged = int(runner.stdout.readline())
            runner.kill()
        left = table.get(job.id)
        assert left.state == "running"
        assert left.cursor["line"] >= acknowledged
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert table.get(job.id).result == {"read": lines}
    with read(engine) as connection:
        written = connection.scalars(select(set_aside.c.line).order_by(set_aside.c.number)).all()
    assert written == list(range(1, lines + 1))
    engine.dispose()


def test_jobs_are_listed_newest_first_by_page_state_and_kind(engine: Engine) -> None:
    table = JobTable(engine)
    ids = [table.submit(kind, {}).id for kind in ("import", "build", "import", "mine")]
    table.request_cancel(ids[0])
    assert [job.id for job in table.list(2)] == [ids[3], ids[2]]
    assert [job.id for job in table.list(2, start=2)] == [ids[1], ids[0]]
    assert [job.id for job in table.list(states=["cancelled"])] == [ids[0]]
    assert [job.id for job in table.list(kinds=["import"], states=["queued"])] == [ids[2]]
