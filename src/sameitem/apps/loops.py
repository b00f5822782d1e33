"""REST routes of the loop: what each one did, its page, and starting one now."""

from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as PathField

from sameitem.apps.schemas import LoopAnswer, LoopsAnswer, OperationAnswer
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.loop_report import LoopReport, read_page, read_report, reports

# The page needs its own style and nothing else; nothing of it can run.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
LoopId = Annotated[str, PathField(max_length=64)]


def add_loops(app: FastAPI, shop: Shop, *, queue: Callable[[Request, str, dict[str, Any]], Response]) -> None:
    """Add the routes.

    Args:
        app: gets them.
        shop: whose loops.
        queue: queues a job of a kind with its arguments and answers with the operation.
    """

    @app.get("/v1/loops", responses={200: {"model": LoopsAnswer}})
    def list_loops(request: Request, num: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
        """Return what the newest loops did, newest first."""
        loops = [_summary(report) for report in islice(reports(shop.folder), num)]
        return _json({"request_id": request.scope["request_id"], "loops": loops})

    @app.get("/v1/loops/{loop_id}", responses={200: {"model": LoopAnswer}})
    def get_loop(request: Request, loop_id: LoopId) -> Response:
        """Return everything a loop says of itself: steps, the gate's figures, the canary's, why it decided so."""
        report = read_report(shop.folder, loop_id)
        return _json({"request_id": request.scope["request_id"], **report.as_json(), "report": _page(report)})

    @app.get(
        "/v1/loops/{loop_id}/report",
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}, "description": "page"}},
    )
    def get_page(loop_id: LoopId) -> Response:
        """Return the page of a loop, HTML that needs nothing else."""
        headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-store"}
        return Response(read_page(shop.folder, loop_id), media_type="text/html; charset=utf-8", headers=headers)

    @app.post("/v1/loops:run", status_code=202, responses={202: {"model": OperationAnswer}})
    def run_loop(request: Request) -> Response:
        """Start a loop: mine, train, gate, canary, publish or keep; one that waits or runs already is returned."""
        return queue(request, "loop", {"seed": 0})


def _summary(report: LoopReport) -> dict[str, Any]:
    return {
        "id": report.id,
        "started": report.started,
        "seconds": report.seconds,
        "published": report.published,
        "reason": report.reason,
        "live": report.live,
        "traffic": report.traffic,
        "warnings": report.warnings,
        "report": _page(report),
    }


def _page(report: LoopReport) -> str:
    return f"/v1/loops/{report.id}/report"


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
