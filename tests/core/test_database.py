import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, func, insert, inspect, select, text

import sameitem.catalog.tables
import sameitem.clicks.counts
import sameitem.clicks.log
import sameitem.core.jobs
import sameitem.core.keys  # noqa: F401  these modules declare the tables
from sameitem.catalog.tables import changes
from sameitem.core import database
from sameitem.core.database import HEAD, VERSION_TABLE, database_name, metadata, open_database, read, write
from sameitem.core.errors import ConflictError, InputError, UnavailableError

MIGRATIONS = Path(database.__file__).parent / "migrations"


def add_change(engine: Engine, product_id: str = "p") -> None:
    with write(engine) as connection:
        connection.execute(insert(changes), {"product_id": product_id, "kind": "add"})


def count_changes(engine: Engine) -> int:
    with read(engine) as connection:
        return connection.scalar(select(func.count()).select_from(changes)) or 0


def test_migrations_make_exactly_the_tables_that_the_code_declares(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
        if connection.dialect.name == "sqlite":  # alembic does not compare AUTOINCREMENT
            made = connection.execute(text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"))
            declared = {table.name for table in metadata.sorted_tables if table.kwargs.get("sqlite_autoincrement")}
            assert {row.name for row in made} == declared


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_opening_again_keeps_what_was_written(database_url: str) -> None:
    for expected in (0, 1):
        engine = open_database(database_url)
        assert count_changes(engine) == expected
        add_change(engine)
        engine.dispose()


def test_sqlite_is_set_to_survive_a_kill(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.connect() as connection:
        modes = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")}
    engine.dispose()
    assert modes == {"journal_mode": "wal", "synchronous": 2}


def test_a_block_that_fails_writes_nothing(engine: Engine) -> None:
    def fail() -> None:
        with write(engine) as connection:
            connection.execute(insert(changes), {"product_id": "p", "kind": "add"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert count_changes(engine) == 0


def test_a_reader_does_not_wait_for_a_writer_and_keeps_its_snapshot(engine: Engine) -> None:
    count = select(func.count()).select_from(changes)
    with read(engine) as reader:
        assert reader.scalar(count) == 0
        with write(engine) as writer:
            writer.execute(insert(changes), {"product_id": "p", "kind": "add"})
            assert count_changes(engine) == 0
        assert reader.scalar(count) == 0
    assert count_changes(engine) == 1


def test_a_writer_waits_for_the_one_before(engine: Engine) -> None:
    with write(engine) as first:
        second = threading.Thread(target=add_change, args=(engine, "second"))
        second.start()
        first.execute(insert(changes), {"product_id": "first", "kind": "add"})
    second.join()
    with read(engine) as connection:
        assert connection.scalars(select(changes.c.product_id).order_by(changes.c.seq)).all() == ["first", "second"]


def test_forty_threads_of_a_server_write_at_once(engine: Engine) -> None:
    together = threading.Barrier(40)

    def write_with_the_others(number: int) -> int:
        with read(engine) as connection:  # each holds a connection while all the others do
            connection.scalar(select(func.count()).select_from(changes))
            together.wait(30)
        add_change(engine, str(number))
        return number

    with ThreadPoolExecutor(40) as threads:
        assert list(threads.map(write_with_the_others, range(40))) == list(range(40))
    assert count_changes(engine) == 40


def test_a_writer_that_waits_too_long_is_told_that_trying_again_may_help(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WRITER_WAIT_S", 0.05)
    engine = open_database(database_url)
    with write(engine), pytest.raises(UnavailableError, match="held by another"):
        add_change(engine)
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    engine = open_database(database_url)
    with write(engine) as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConflictError, match="install the newer sameitem"):
        open_database(database_url)


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE products (id INTEGER)")
    other.close()
    with pytest.raises(ConflictError, match="another program"):
        open_database(f"sqlite:///{path}")
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("products",)]
    other.close()


def test_a_postgresql_database_that_cannot_hold_every_text_is_refused(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    with pytest.raises(ConflictError, match="is in LATIN1"):
        open_database(postgres.replace("/postgres?", "/latin?"))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    with pytest.raises(InputError, match="not a SQLite database"):
        open_database(f"sqlite:///{path}")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="check that its folder exists"):
        open_database(f"sqlite:///{tmp_path / 'no' / 'catalogue.db'}")


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(UnavailableError, match=r"postgresql://shop@127.0.0.1:1/catalogue") as caught:
        open_database("postgresql://shop:hunter2@127.0.0.1:1/catalogue?password=hunter3")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "catalogue.db", "mysql://root@localhost/x", "sqlite://", "sqlite:///:memory:", "http://[", "postgresql:"],
)
def test_other_urls_are_refused_with_what_is_accepted(url: str) -> None:
    with pytest.raises(InputError, match="need sqlite:///FILE or postgresql://"):
        open_database(url)


def test_the_shown_name_has_no_password_and_no_parameters() -> None:
    url = database.make_url("postgresql+psycopg://me:secret@db:5432/shop?sslpassword=secret")
    assert database_name(url) == "postgresql://me@db:5432/shop"


@pytest.mark.parametrize("text_in", ["a\0b", "\ud800", "ok \U0001f600"])
def test_what_cannot_be_stored_is_replaced(engine: Engine, text_in: str) -> None:
    add_change(engine, database.storable(text_in))
    with read(engine) as connection:
        assert connection.scalar(select(changes.c.product_id)) == database.storable(text_in)


OPEN = "import sys; from sameitem.core.database import open_database; open_database(sys.argv[1]).dispose()"
WRITE = """
import sys
from sqlalchemy import func, insert, select
from sameitem.catalog.tables import changes
from sameitem.core.database import open_database, write
engine = open_database(sys.argv[1])
for number in range(int(sys.argv[2])):
    with write(engine) as connection:
        connection.scalar(select(func.max(changes.c.seq)))  # a reader that turns writer is what SQLite may refuse
        connection.execute(insert(changes), {"product_id": str(number), "kind": "add"})
engine.dispose()
"""


def run_together(script: str, processes: int, *arguments: str) -> list[str]:
    """Run a script in several processes at once; return what each wrote to stderr."""
    command = [sys.executable, "-c", script, *arguments]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(processes)]
    return [process.communicate()[1] for process in started]


@pytest.mark.slow
def test_processes_that_open_a_new_database_at_once_make_it_once(database_url: str) -> None:
    assert run_together(OPEN, 6, database_url) == [""] * 6
    engine = open_database(database_url)
    assert inspect(engine).has_table("products")
    engine.dispose()


@pytest.mark.slow
def test_four_processes_that_write_at_once_all_succeed(database_url: str) -> None:
    open_database(database_url).dispose()
    assert run_together(WRITE, 4, database_url, "150") == [""] * 4
    engine = open_database(database_url)
    assert count_changes(engine) == 600
    engine.dispose()
