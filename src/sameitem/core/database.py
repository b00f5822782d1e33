"""The database of a shop: one SQLAlchemy engine on SQLite or PostgreSQL, migrated when it is opened.

Every write of the project goes through `write`, which lets one writer in at a time; that is what makes sequence numbers
become visible in order. Readers never wait. Tables are declared beside the code that fills them, all in `metadata`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Engine,
    ExceptionContext,
    Integer,
    MetaData,
    Text,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from sameitem.core.errors import AccessError, ConflictError, InputError, SameItemError, UnavailableError

HEAD = "0002"  # the newest migration in migrations/versions
VERSION_TABLE = "sameitem_version"
WRITER_WAIT_S = 60  # how long a writer waits for the others before it gives up
WRITER_IDLE_S = 120  # PostgreSQL: a writer that holds the lock and sends nothing for so long is disconnected
MAX_CONNECTIONS = 50  # of one process: more than the threads of a server, fewer than PostgreSQL's default of 100
_WRITER_LOCK = 0x53414D45_00000001  # advisory lock key: "SAME", 1

metadata = MetaData()
TEXT = Text().with_variant(Text(collation="C"), "postgresql")  # the order of code points on both
NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # INTEGER is what SQLite can count up


def open_database(url: str) -> Engine:
    """Return an engine on the database, created or migrated to this version's tables where needed.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST:PORT/NAME`.

    Raises:
        InputError: no URL of these two kinds, or a file that is not a SQLite database.
        ConflictError: made by a newer version, or filled by another program.
        UnavailableError: the server does not answer, or the file cannot be opened.
    """
    engine = _create(url)
    try:
        _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """Run the block in one write transaction, committed at its end; other writers of any process wait.

    Keep the block short and never open a second one inside it: that one would wait for the first.

    Raises:
        UnavailableError: other writers did not let this one in for `WRITER_WAIT_S`.
    """
    with engine.connect().execution_options(sameitem_write=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(
                text(
                    "SELECT set_config('lock_timeout', :wait, true), "
                    "set_config('idle_in_transaction_session_timeout', :idle, true), pg_advisory_xact_lock(:key)"
                ),
                {"wait": f"{WRITER_WAIT_S}s", "idle": f"{WRITER_IDLE_S}s", "key": _WRITER_LOCK},
            )
        yield connection


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """Run the block on one consistent snapshot: it sees nothing that is committed after its first statement."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


def database_name(url: URL) -> str:
    """Return the URL in a form that may be shown and logged: no password, no parameters."""
    shown = URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database)
    return shown.render_as_string()


def storable(value: str) -> str:
    """Return the text with what a database cannot hold (NUL, half a surrogate pair) replaced."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _create(text_url: str) -> Engine:
    accepted = "need sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME"
    try:
        url = make_url(text_url)
    except (ArgumentError, ValueError) as error:
        raise InputError(f"the database URL cannot be read; {accepted}", field="catalogue.url") from error
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            hide_parameters=True,  # in errors, which are logged
            max_overflow=MAX_CONNECTIONS - 5,
            # no prepared statements: during a bulk load the server would keep the plan it made for the empty table
            connect_args={"connect_timeout": 10, "application_name": "sameitem", "prepare_threshold": None},
        )
    elif backend == "sqlite" and url.database and ":memory:" not in url.database:
        engine = create_engine(
            url.set(drivername="sqlite"),
            hide_parameters=True,
            max_overflow=MAX_CONNECTIONS - 5,
            connect_args={"timeout": WRITER_WAIT_S},
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        raise InputError(f"got a database URL of kind {url.drivername!r}; {accepted}", field="catalogue.url")
    event.listen(engine, "handle_error", _translate)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver
    # secure_delete: what is erased leaves no bytes behind, nor do rows that were moved before
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.cursor().execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("sameitem_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _translate(context: ExceptionContext) -> SameItemError | None:
    """Turn the driver's errors that a user can do something about into ours; the others are our bugs."""
    if context.is_pre_ping:  # the pool deals with it: it connects anew
        return None
    error = context.original_exception
    name = database_name(context.engine.url) if context.engine is not None else "the database"
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error, name)
    return _of_postgres(error, name) if context.dialect.name == "postgresql" else None


def _of_sqlite(error: sqlite3.Error, name: str) -> SameItemError | None:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return UnavailableError(f"{name} was held by another process for {WRITER_WAIT_S} s ({error}); try again")
        case sqlite3.SQLITE_NOTADB:
            return InputError(f"{name} is not a SQLite database; name another file", field="catalogue.url")
        case sqlite3.SQLITE_CORRUPT:
            return ConflictError(f"{name} is damaged ({error}); restore a backup")
        case (
            sqlite3.SQLITE_CANTOPEN
            | sqlite3.SQLITE_PERM
            | sqlite3.SQLITE_READONLY
            | sqlite3.SQLITE_IOERR
            | sqlite3.SQLITE_FULL
        ):
            return UnavailableError(f"{name}: {error}; check that its folder exists, may be written and has space")
    return None


def _of_postgres(error: BaseException, name: str) -> SameItemError | None:
    from psycopg import InterfaceError, OperationalError  # only where PostgreSQL is in use

    state = getattr(error, "sqlstate", None)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if state == "55P03":
        return UnavailableError(f"{name} was held by another writer for {WRITER_WAIT_S} s; try again")
    if state == "42501":
        return AccessError(f"{name}: {reason}; grant this user the right, or connect as another one")
    if isinstance(error, OperationalError | InterfaceError):
        return UnavailableError(f"{name}: {reason}; check that the server runs and that user and password are right")
    return None


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return
    with write(engine) as connection:
        revision = _revision(connection)  # another process may have been faster
        if revision != HEAD:
            _upgrade(connection, revision, database_name(engine.url))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def _upgrade(connection: Connection, revision: str | None, name: str) -> None:
    from alembic.migration import MigrationContext  # slow to import, needed once per version
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    known = [step.revision for step in script.walk_revisions()]
    if revision is not None and revision not in known:
        raise ConflictError(
            f"{name} is at version {revision}, this sameitem knows versions up to {HEAD}; install the newer sameitem"
        )
    if revision is None:
        _check_empty(connection, name)
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    with Operations.context(context):
        for step in reversed(list(script.iterate_revisions(HEAD, revision or "base"))):
            step.module.upgrade()
    context.stamp(script, HEAD)


def _check_empty(connection: Connection, name: str) -> None:
    """Refuse what our tables cannot be made in."""
    taken = sorted({"products", "images", "changes", "jobs"} & set(inspect(connection).get_table_names()))
    if taken:
        raise ConflictError(f"{name} holds tables of another program ({', '.join(taken)}); name an empty database")
    if connection.dialect.name == "postgresql":
        encoding = connection.scalar(text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise ConflictError(f"{name} is in {encoding}, which cannot hold every text; make one with ENCODING 'UTF8'")
