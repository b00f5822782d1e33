"""Writes the reference pages from the code itself: `python -m sameitem.apps.reference docs/reference`."""

import sys
from pathlib import Path
from typing import Any

import typer
from fastapi import FastAPI
from pydantic import BaseModel

from sameitem.apps.cli import app as command_line
from sameitem.apps.rest import create_app
from sameitem.core.settings import Settings
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop


def pages() -> dict[str, str]:
    """Return the text of every reference page by file name."""
    return {"settings.md": _settings(), "command-line.md": _command_line(), "rest.md": _rest()}


def _settings() -> str:
    lines = [
        "# Settings",
        "",
        "In `sameitem.toml`, as environment variables (`SAMEITEM_ENGINE__RECALL=0.99`) or as flags",
        "(`--set engine.recall=0.99`); flag > environment > file > default. `sameitem config show --sources` tells",
        "what holds and why.",
        "",
    ]
    for name, info in Settings.model_fields.items():
        part = info.annotation
        assert isinstance(part, type)
        assert issubclass(part, BaseModel)
        lines += [f"## {name}", "", str(part.__doc__), "", "| setting | default | meaning |", "|---|---|---|"]
        lines += [
            f"| `{name}.{key}` | `{field.default!r}` | {field.description} |"
            for key, field in part.model_fields.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _command_line() -> str:
    root = typer.main.get_command(command_line)
    lines = ["# Command line", "", "`--json` prints one JSON object on stdout; messages and progress go to stderr.", ""]
    lines += ["Exit codes: 0 ok, 1 failure, 2 usage, 3 done but something was set aside, 4 not found, 5 conflict,"]
    lines += ["130 interrupted.", ""]
    for path, command in _commands(root, "sameitem"):
        lines += [f"## `{path}`", "", str(command.help or ""), ""]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            names = ", ".join(f"`{name}`" for name in parameter.opts)
            text = getattr(parameter, "help", None) or ""
            lines.append(f"- {names} {text}".rstrip())
        lines.append("")
    return "\n".join(lines)


def _commands(group: Any, path: str) -> list[tuple[str, Any]]:
    found = []
    for name, command in group.commands.items():
        if command.hidden:
            continue
        here = f"{path} {name}"
        found += _commands(command, here) if hasattr(command, "commands") else [(here, command)]
    return found


def _rest() -> str:
    shop = Shop(Path(), Settings())
    app: FastAPI = create_app(shop, Searcher(shop), wake_runner=lambda: None)
    lines = [
        "# REST interface",
        "",
        "The machine-readable document is served at `/openapi.json`. Errors are RFC 9457 problem details with `code`,",
        "`request_id` and `errors[{field, reason}]`. Where keys are needed, and how they are sent: [keys](../keys.md).",
        "",
    ]
    document = app.openapi()
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            lines += [f"## `{method.upper()} {path}`", "", route["description"], "", *_scope(route)]
            for parameter in route.get("parameters", []):
                text = parameter.get("description") or parameter["schema"].get("description") or ""
                lines.append(f"- `{parameter['name']}` ({parameter['in']}) {text}".rstrip())
            lines += [
                *_body(route, document["components"]["schemas"]),
                *_answer(route, document["components"]["schemas"]),
                "",
            ]
    return "\n".join(lines)


def _scope(route: dict[str, Any]) -> list[str]:
    return [f"- needs a key with the scope `{scheme['key'][0]}`" for scheme in route["security"] if "key" in scheme]


def _body(route: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    content = route.get("requestBody", {}).get("content", {})
    if not content:
        return []
    images = [kind for kind in content if kind.startswith("image/")]
    kinds = [kind for kind in content if kind not in images] + (["the bytes of an image"] if images else [])
    lines = [f"- body: {', '.join(kinds)}"]
    return lines + _fields(content.get("application/json", {}).get("schema", {}), schemas)


def _answer(route: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    status, good = next((status, answer) for status, answer in route["responses"].items() if status.startswith("2"))
    schema = good.get("content", {}).get("application/json", {}).get("schema", {})
    return [
        f"- answers {status}; problems {', '.join(s for s in route['responses'] if s != status)}",
        *_fields(schema, schemas),
    ]


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    named = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    return [
        f"  - `{name}` {part.get('description', '')}".rstrip() for name, part in named.get("properties", {}).items()
    ]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
