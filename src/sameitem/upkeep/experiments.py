"""Comparing two rankers or models on the shop's own searches: begin, see how it stands from the click log, end."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sameitem.clicks.log import CLICK_TYPES, Session
from sameitem.core.errors import ConflictError, NotFoundError
from sameitem.engine.versions import current
from sameitem.metrics.intervals import Interval
from sameitem.metrics.sequential import StopRule, Trial, add_all, plan, preference
from sameitem.pipeline import experiment as state
from sameitem.pipeline.experiment import Experiment, read_mark
from sameitem.pipeline.generations import comparable_index, manifest_if_readable
from sameitem.pipeline.shop import Shop
from sameitem.rerank.interleaving import winner

SETTLES_S = 3600.0  # a search counts when it is so old: until then clicks may still come
PER_USER = 20  # searches of one user that may decide; nobody alone, or no script, shall decide for all
_AT_ONCE = 1000
_SIDE = {"A": -1, "B": 1, "": 0}


@dataclass(frozen=True, slots=True)
class Standing:
    """How an experiment stands."""

    experiment: Experiment
    trial: Trial
    preference: Interval  # for B, (wins of B - wins of A) / decided searches
    searches: int  # of the experiment that were old enough, up to the one that ended it
    waiting: int  # too young to count
    over_the_limit: int  # of users who had decided `PER_USER` already

    def as_json(self) -> dict[str, Any]:
        """Return it as `sameitem experiment show --json` prints it."""
        experiment, trial = self.experiment, self.trial
        return {
            "id": experiment.id,
            "kind": experiment.kind,
            "a": experiment.a,
            "b": experiment.b,
            "share": experiment.share,
            "started_at": experiment.started_at,
            "verdict": trial.verdict,
            "preference": asdict(self.preference),
            "searches": self.searches,
            "decided": trial.decided,
            "a_wins": trial.a_wins,
            "b_wins": trial.b_wins,
            "ties": trial.ties,
            "waiting": self.waiting,
            "over_the_limit": self.over_the_limit,
            "most": plan(experiment.rule).most,
            "rule": asdict(experiment.rule),
        }


def start_experiment(shop: Shop, a: str, b: str, *, share: float, rule: StopRule, now: float) -> Experiment:
    """Let searches of a share of the users show what two rankers, or two models, would, interleaved.

    Args:
        shop: whose searches.
        a: ranker version, or "looks", by looks alone; or the model version that answers now.
        b: the other one; a model needs an index that saw as much of the catalogue as the live one did.
        share: of users, above 0, up to 1.
        rule: when it is decided.
        now: seconds since 1970.

    Raises:
        NotFoundError: there is no such ranker or model.
        InputError: both are the same, one is damaged, or an impossible share.
        ConflictError: an experiment is running, a ranker looks at other features than this release computes, model A
            does not answer, or model B has no index to search in.
    """
    kind: state.Kind = "ranker"
    if _is_model(shop, a) and _is_model(shop, b):
        kind = "model"
        _check_models(shop, a, b)
    else:
        for version in (a, b):
            shop.ranker(version)
    plan(rule)
    return state.start(shop.experiments_root, a=a, b=b, share=share, rule=rule, at=now, kind=kind)


def _is_model(shop: Shop, version: str) -> bool:
    try:
        return shop.model_folder(version).is_dir()
    except NotFoundError:
        return False


def _check_models(shop: Shop, a: str, b: str) -> None:
    live = current(shop.index_root)
    answers = manifest_if_readable(shop.index_root / live) if live else None
    if answers is None or answers.model_version != a:
        name = "no model" if answers is None else answers.model_version
        raise ConflictError(f"A must be the model that answers now, which is {name}; got {a}")
    if a != b and comparable_index(shop.index_root, b) is None:
        raise ConflictError(
            f"model {b} has no index as fresh as the live one; `sameitem models compare {a} {b}` builds one beside it"
        )


def show_experiment(shop: Shop, *, now: float) -> Standing:
    """Return how the running experiment stands, counted anew from the click log.

    Raises:
        NotFoundError: none is running.
    """
    running = state.read(shop.experiments_root)
    if running is None:
        raise NotFoundError("no experiment is running; `sameitem experiment start A B` begins one")
    return standing(running, shop.clicks.sessions(since=running.started_at), now=now)


def stop_experiment(shop: Shop, *, now: float) -> Standing:
    """End the running experiment; how it stood is kept in `experiments/`. Which ranker is active does not change.

    Raises:
        NotFoundError: none is running.
    """
    shown = show_experiment(shop, now=now)
    state.stop(shop.experiments_root, at=now, result=shown.as_json())
    return shown


def standing(experiment: Experiment, sessions: Iterable[Session], *, now: float) -> Standing:
    """Return how an experiment stands after these sessions.

    Args:
        experiment: others' sessions are passed over.
        sessions: oldest first.
        now: seconds since 1970.
    """
    trial = Trial()
    passed: Counter[str] = Counter()
    part: list[int] = []
    for win in _wins(experiment, sessions, now=now, passed=passed):
        part.append(win)
        if len(part) == _AT_ONCE:
            trial = add_all(trial, experiment.rule, np.array(part, np.int8))
            part = []
    trial = add_all(trial, experiment.rule, np.array(part, np.int8))
    return Standing(
        experiment=experiment,
        trial=trial,
        preference=preference(trial, experiment.rule),
        searches=trial.sessions,
        waiting=passed["waiting"],
        over_the_limit=passed["over_the_limit"],
    )


def _wins(experiment: Experiment, sessions: Iterable[Session], *, now: float, passed: Counter[str]) -> Iterator[int]:
    """Yield what each search says: 1 B, -1 A, 0 neither; counts those that say nothing yet, or no more."""
    decided: Counter[str] = Counter()
    for session in sessions:
        search = session.search
        mark = read_mark(search.experiment)
        if mark is None or mark.id != experiment.id:
            continue
        if search.at > now - SETTLES_S:
            passed["waiting"] += 1
            continue
        won = winner(mark.teams, _clicked(session))
        who = search.user_id or search.session_id
        if won and who and decided[who] >= PER_USER:
            passed["over_the_limit"] += 1
            continue
        decided[who] += bool(won)
        yield _SIDE[won]


def _clicked(session: Session) -> list[int]:
    """Return the places of the list, from 0, that were clicked and not dismissed."""
    dismissed = {event.rank for event in session.events if event.type == "dismiss"}
    clicked = {event.rank for event in session.events if event.type in CLICK_TYPES} - dismissed
    return [place for place, shown in enumerate(session.search.shown) if shown.rank in clicked]
