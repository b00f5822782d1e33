"""A running experiment as a state of the shop: which two rankers or models are compared, and on whose searches.

experiments/CURRENT    {"format": 1, "id": ..., "kind": "ranker", "a": ..., "b": ..., "share": ..., ...}
experiments/ID.json    the same of one that was stopped, with "stopped_at" and "result"

A search of the experiment shows one list that team draft interleaving made of both orders; whose each place is goes
into the click log with the list (`Search.experiment`), so that what users click says later which order is better
(`upkeep.experiments`). One experiment runs at a time. Servers read the file at every search: starting and stopping one
needs no restart.
"""

import hashlib
import json
import logging
import secrets
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from sameitem.core.durable import write_whole
from sameitem.core.errors import ConflictError, InputError, NotFoundError, SameItemError
from sameitem.engine.versions import switching
from sameitem.metrics.sequential import StopRule
from sameitem.rerank.interleaving import Interleaved, team_draft

T = TypeVar("T", bound=Hashable)
Kind = Literal["ranker", "model"]  # what is compared
CURRENT = "CURRENT"
FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Experiment:
    """Two orders of the same hits, compared by clicks."""

    id: str
    kind: Kind
    a: str  # ranker version, or "looks"; of models: the model version that answers
    b: str
    share: float  # of users whose searches take part, above 0, up to 1
    started_at: float  # seconds since 1970
    rule: StopRule


@dataclass(frozen=True, slots=True)
class Mark:
    """What the click log keeps of an experiment beside a search's list."""

    id: str  # of the experiment
    teams: str  # of each shown place: "A", "B", or "-" where both had the same item next

    def as_text(self) -> str:
        """Return it as `Search.experiment` holds it."""
        return json.dumps(asdict(self), separators=(",", ":"))


def read_mark(text: str) -> Mark | None:
    """Return what `Search.experiment` says; None where the search was in none."""
    return TypeAdapter(Mark).validate_json(text) if text else None


def start(root: Path, *, a: str, b: str, share: float, rule: StopRule, at: float, kind: Kind = "ranker") -> Experiment:
    """Let an experiment begin.

    Args:
        root: folder of the shop's experiments.
        a: ranker version, or "looks"; the caller has checked that it can rank.
        b: the other one.
        share: of users, above 0, up to 1.
        rule: when it is decided.
        at: now, seconds since 1970.
        kind: what the two are.

    Raises:
        InputError: both are the same, or an impossible share.
        ConflictError: one is running.
    """
    if a == b:
        raise InputError(f"need two different {kind}s to compare, got {a!r} twice", field="b")
    if not 0 < share <= 1:
        raise InputError(f"need a share of users above 0 and up to 1, got {share:g}", field="share")
    with switching(root):
        if (running := read(root)) is not None:
            raise ConflictError(
                f"experiment {running.id} is running; `sameitem experiment show` tells how it stands, `sameitem "
                "experiment stop` ends it"
            )
        name = f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        experiment = Experiment(name, kind, a, b, share, at, rule)
        _write(root / CURRENT, asdict(experiment))
    return experiment


def read(root: Path) -> Experiment | None:
    """Return the experiment that is running, None where there is none.

    Raises:
        ConflictError: the file is damaged or of another format.
    """
    try:
        return _parsed((root / CURRENT).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConflictError(f"{root.name}/{CURRENT} cannot be read: {error.strerror}") from error


def running(root: Path, kind: Kind) -> Experiment | None:
    """Return the experiment of a kind that is running; one that cannot be read is no reason not to answer a search."""
    try:
        found = read(root)
    except SameItemError as error:
        _log.error("the experiment cannot be read, nobody takes part: %s", error)
        return None
    return found if found is not None and found.kind == kind else None


def stop(root: Path, *, at: float, result: Mapping[str, Any]) -> Experiment:
    """End the running experiment and keep it, with what came of it, under its id.

    Args:
        root: folder of the shop's experiments.
        at: now, seconds since 1970.
        result: what is kept beside it, as JSON.

    Raises:
        NotFoundError: none is running.
        ConflictError: the file is damaged or of another format.
    """
    with switching(root):
        running = read(root)
        if running is None:
            raise NotFoundError("no experiment is running; `sameitem experiment start A B` begins one")
        _write(root / f"{running.id}.json", {**asdict(running), "stopped_at": at, "result": dict(result)})
        (root / CURRENT).unlink()
    return running


def assigned(experiment: Experiment, who: str) -> bool:
    """Return whether somebody's searches are part of an experiment: always the same answer for the same one.

    Args:
        experiment: the running one.
        who: user id; without one the session id, without that the search id.
    """
    return _hash(experiment.id, who) < experiment.share * 2**64


def interleaved(order_a: Sequence[T], order_b: Sequence[T], seed: str) -> Interleaved[T]:
    """Return one list of two orders, and whose each place is.

    Args:
        order_a: what A would show, best first.
        order_b: what B would show.
        seed: the coins follow from it: the same one gives the same list again, as the next page of a search needs it.
    """
    coins = np.random.default_rng(_hash("coins", seed)).random(min(len(order_a), len(order_b))) < 0.5
    return team_draft(order_a, order_b, coins)


def _hash(*names: str) -> int:
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8])


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps({"format": FORMAT, **content}, allow_nan=False).encode() + b"\n")


@lru_cache(maxsize=4)
def _parsed(content: bytes) -> Experiment:
    name = f"experiments/{CURRENT}"
    try:
        values = json.loads(content)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ConflictError(f'{name} has no "format": {FORMAT}, the one this release reads; upgrade sameitem')
        return TypeAdapter(Experiment).validate_python(values)
    except (ValueError, ValidationError, InputError) as error:
        raise ConflictError(f"{name} is damaged ({error}); remove it, the experiment ends by that") from error
