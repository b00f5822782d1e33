"""How a browser keeps a key: in a cookie, which `<img>` and `fetch` of the server's own pages send along."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sameitem.apps.access import COOKIE, NO_STORE, Access, Refused
from sameitem.core.keys import SCOPES

COOKIE_S = 7 * 24 * 3600  # how long a browser stays logged in


class LoginBody(BaseModel):
    """The key that somebody entered."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(max_length=500, description="a key as `sameitem keys create` printed it")


class LoginAnswer(BaseModel):
    """Whom the browser is logged in as."""

    request_id: str
    name: str = Field(description="the key's name")
    scopes: list[str]


class LogoutAnswer(BaseModel):
    """The cookie is gone."""

    request_id: str


def add_login(app: FastAPI, access: Access, answer: Callable[[dict[str, Any]], Response]) -> None:
    """Add the routes by which a browser keeps a key and forgets it.

    Args:
        app: gets the routes.
        access: checks the keys.
        answer: turns a body into an answer.
    """

    @app.post("/v1/login", responses={200: {"model": LoginAnswer}})
    async def login(request: Request, body: LoginBody) -> Response:
        """Keep a key in a cookie for the server's own pages: no script can read it, no other site can use it."""
        try:
            key = await access.log_in(request.scope, body.key.strip())
        except Refused as refused:
            return refused.answer(request.scope)
        scopes = [scope for scope in SCOPES if key.opens(scope)]
        response = answer({"request_id": request.scope["request_id"], "name": key.name, "scopes": scopes})
        response.headers.update(NO_STORE)
        response.set_cookie(
            COOKIE,
            body.key.strip(),
            max_age=COOKIE_S,
            path="/",
            secure=request.scope["scheme"] == "https",
            httponly=True,
            samesite="strict",
        )
        return response

    @app.post("/v1/logout", responses={200: {"model": LogoutAnswer}})
    def logout(request: Request) -> Response:
        """Take the cookie away; the key itself stays valid."""
        response = answer({"request_id": request.scope["request_id"]})
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response
