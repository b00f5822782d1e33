"""What all commands share: their options, an opened shop, a job that is run, how answers are printed."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sameitem.core.errors import InputError, NotFoundError, SameItemError

if TYPE_CHECKING:
    from sameitem.apps.terminal import Terminal
    from sameitem.pipeline.shop import Shop

ShopOption = Annotated[
    Path | None, typer.Option("--shop", help="Folder of the shop; default $SAMEITEM_SHOP, else the current folder.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting for this call: engine.recall=0.99")
]


SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything drawn by chance.")]


@contextmanager
def opened_shop(context: typer.Context, shop: Path | None, settings: list[str] | None) -> Iterator["Shop"]:
    """Open the shop of --shop, of $SAMEITEM_SHOP or of this folder while the block runs.

    Raises:
        NotFoundError: no shop lies there.
    """
    from sameitem.core.settings import load_settings
    from sameitem.pipeline.shop import Shop, is_shop

    folder = folder_of(context, shop)
    if not is_shop(folder):
        raise NotFoundError(
            f"{folder} is no shop (it has no sameitem.toml); run `sameitem init` there, or give --shop DIR"
        )
    opened = Shop(folder, load_settings(folder, flags_of(settings))[0])
    try:
        yield opened
    finally:
        opened.close()


def folder_of(context: typer.Context, shop: Path | None) -> Path:
    """Return the folder that a command is about."""
    return (shop or context.obj or Path(os.environ.get("SAMEITEM_SHOP") or ".")).absolute()


def flags_of(settings: list[str] | None) -> dict[str, Any]:
    """Return `key=value` texts as nested settings; a value is JSON where it reads as such, else text."""
    nested: dict[str, Any] = {}
    for text in settings or []:
        key, equals, value = text.partition("=")
        part, dot, name = key.strip().partition(".")
        if not equals or not dot or not name:
            raise InputError(f"need --set part.name=value, got {text!r}; `sameitem config show` lists the names")
        try:
            nested.setdefault(part, {})[name] = json.loads(value)
        except json.JSONDecodeError:
            nested.setdefault(part, {})[name] = value
    return nested


def terminal_of(as_json: bool) -> "Terminal":
    """Return what shows progress and results; with --json it says nothing."""
    from sameitem.apps.terminal import Terminal

    return Terminal(quiet=as_json)


def run_shop_job(
    shop: "Shop", kind: str, arguments: Mapping[str, Any], terminal: "Terminal", **options: Any
) -> dict[str, Any]:
    """Run a job here, or follow it while another process runs it; an interrupted one of the same kind goes on."""
    from sameitem.core import errors
    from sameitem.core.jobs import run_job
    from sameitem.upkeep.work import work_of

    job = shop.jobs.unfinished(kind, arguments) or shop.jobs.submit(kind, arguments)
    work = work_of(shop, **{"tell": terminal.tell, **options})
    finished = run_job(shop.jobs, job.id, work, waiting=terminal.wait)
    if finished.state != "done":
        raised: type[SameItemError] = getattr(errors, str(finished.result.get("error_class")), InputError)
        raise raised(finished.error or f"the job was {finished.state}")
    return finished.result


def print_json(values: Mapping[str, Any]) -> None:
    """Print the answer of --json."""
    typer.echo(json.dumps(values, ensure_ascii=False, indent=2, default=str))


def complain(message: str) -> None:
    """Print a line about what went wrong."""
    typer.echo(f"sameitem: {message}", err=True)
