"""What the routes of the REST interface share: how an answer is written and documented."""

from typing import Any

import orjson
from fastapi import Request, Response
from pydantic import BaseModel

from sameitem.core.jobs import Job


class Json(Response):
    """Bytes that orjson wrote: validated input, our own output, no second pass over it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return orjson.dumps(content)


def request_id_of(request: Request) -> str:
    """Return the id that the guard gave this request."""
    identity: str = request.scope["request_id"]
    return identity


def operation_answer(job: Job, request_id: str) -> dict[str, Any]:
    """Return a job as `OperationAnswer` has it."""
    failed = job.counts.get("set_aside", 0)
    return {
        "request_id": request_id,
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "percent": round(job.percent, 1),
        "done": job.counts.get("read", 0) or job.counts.get("done", 0),
        "failed": failed,
        "counts": job.counts,
        "first_errors": job.first_errors,
        "error_file": f"/v1/operations/{job.id}/errors" if job.error_file else None,
        "error": job.error,
        "result": job.result,
    }


def answer_ok(model: type[BaseModel], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return what documents a JSON answer."""
    return {status: {"model": model}}


def answer_bytes(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Return what documents an answer that is no JSON."""
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}, "description": "bytes"}}
