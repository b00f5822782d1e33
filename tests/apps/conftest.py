"""Fixtures of the tests that go through a real server."""

import csv
from collections.abc import Iterator

import pytest

from live import Client, live_server
from sameitem.core.jobs import run_jobs
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from sameitem.upkeep.work import work_of


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    """A server of the test's shop, whose jobs are run at once."""
    with live_server(shop, wake_runner=lambda: run_jobs(shop.jobs, work_of(shop))) as client:
        yield client


@pytest.fixture(scope="session")
def photo(drawn: DemoShop) -> bytes:
    """A user's photo of something that the drawn shop sells."""
    with drawn.queries.open(newline="", encoding="utf-8") as file:
        return (drawn.folder / next(csv.DictReader(file))["image"]).read_bytes()
