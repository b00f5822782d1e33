"""Every route fuzzed from the OpenAPI document: no 5xx, and answers as documented."""

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error, response_schema_conformance, status_code_conformance
from schemathesis.specs.openapi.checks import content_type_conformance

from live import Client, live_server
from sameitem.pipeline.shop import Shop

pytestmark = pytest.mark.slow
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
EXAMPLES = int(os.environ.get("SAMEITEM_TEST_EXAMPLES", "25"))  # requests per route and mode


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    """A server whose jobs only wait: run at once, a drawn training would hold its request for longer than one waits."""
    with live_server(shop) as client:
        yield client


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_route_breaks_or_leaves_its_schema(client: Client, shop: Shop, mode: GenerationMode) -> None:
    key = {"Authorization": f"Bearer {shop.keys.create('fuzz', ['admin'])[1]}"}  # else drawn ones would stop it at 401
    schema = schemathesis.openapi.from_url(f"{client.address}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        strategy = operation.as_strategy(generation_mode=mode)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=strategy)
        def fuzz(case: Case) -> None:
            case.call_and_validate(checks=CHECKS, headers=key)

        try:
            fuzz()
        except Unsatisfiable:  # a route without parameters has nothing to send wrongly
            assert mode is GenerationMode.NEGATIVE
