"""Fixtures that several packages need: a database on each backend, a drawn shop that is built."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
from sqlalchemy import Engine, inspect, text

from postgres import NoPostgresError, postgres_server
from sameitem.core.database import VERSION_TABLE, open_database
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from shops import copied, draw, import_source, open_shop, run

hypothesis.settings.register_profile("sameitem", deadline=None)  # the first example may compile
hypothesis.settings.load_profile("sameitem")

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the test session."""
    try:
        with postgres_server() as url:
            yield url
    except NoPostgresError as error:
        pytest.skip(str(error))


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    name = f"shop{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, on each backend in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalogue.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def postgres_engine(postgres: str) -> Iterator[Engine]:
    """A migrated PostgreSQL database that the tests of a session share; `engine` empties it."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shared")
    engine = open_database(postgres.replace("/postgres?", "/shared?"))
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty, migrated database, on each backend in turn."""
    if request.param == "sqlite":
        engine = open_database(f"sqlite:///{tmp_path / 'catalogue.db'}")
        yield engine
        engine.dispose()
        return
    engine = request.getfixturevalue("postgres_engine")
    yield engine
    with engine.begin() as connection:
        names = inspect(connection).get_table_names()
        tables = ", ".join(name for name in names if name != VERSION_TABLE)
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DemoShop:
    """A catalogue file with pictures and labelled user photos, drawn once."""
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def built_folder(drawn: DemoShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop whose index is published; tests that change it take `shop`."""
    folder = tmp_path_factory.mktemp("built") / "shop"
    shop = open_shop(folder)
    import_source(shop, drawn.catalogue)
    run(shop, "build")
    shop.close()
    return folder


@pytest.fixture
def shop(built_folder: Path, tmp_path: Path) -> Iterator[Shop]:
    """A published shop of the test's own."""
    shop = open_shop(copied(built_folder, tmp_path / "shop"))
    yield shop
    shop.close()
