"""The loop that runs every day: clicks become triplets, triplets a model, and the model goes live if it finds more.

tidying -> counts -> catalogue -> mine -> train -> index -> gate -> canary -> publish, or keep what is live -> ranker

The embedding comes before the ranker. A ranker is told how alike photo and product are, and another embedding shifts
all of these numbers: a ranker that passed its gate beside the old one has passed nothing beside the new one. A new
embedding needs no ranker to be measured: its gate looks at the visual order alone. Each is decided on its own: one may
go live while the other is kept out.

A loop is a job. What it has done is kept after every step, so that one that was killed goes on there; features and
checkpoints save what the interrupted step had paid. The switch itself is one rename (`pipeline.generations`): users
always have the old version or the new one, whole.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, Protocol

from sameitem.clicks.traffic import Place, Traffic, traffic_since
from sameitem.core.errors import ConflictError, InputError, NotFoundError, RefusedError, UnavailableError
from sameitem.core.jobs import Cancelled, Job
from sameitem.engine.manifest import read_manifest
from sameitem.engine.versions import current, new_version, remove
from sameitem.evaluation.compare import MAIN, Comparison
from sameitem.evaluation.evaluate import LabelledQuery, read_queries
from sameitem.evaluation.gate import Judgement, described, judge
from sameitem.metrics.intervals import wilson_interval
from sameitem.pipeline.generations import comparable_index, go_back, go_forward, manifest_if_readable
from sameitem.pipeline.offline import BuildReport
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.canary import AFTERWARDS, CanaryReport, ask_canary, draw_sample
from sameitem.upkeep.generations import clear_versions, compare_indexes, held_out_queries, too_few_queries
from sameitem.upkeep.loop_page import page_of
from sameitem.upkeep.loop_report import HISTORY, LoopReport, Step, Verdict, reports, write_report
from sameitem.upkeep.mining import TRIPLETS, mine_shop
from sameitem.upkeep.old_models import LOOP, clear_models
from sameitem.upkeep.training import Trainers, train

SEARCH_CLICKS, LABELLED = "clicked searches", "labelled photos"  # slices of the gate's queries
_PERCENT = {  # where a step begins, roughly
    "catalogue": 2.0,
    "mine": 15.0,
    "train": 25.0,
    "index": 60.0,
    "gate": 70.0,
    "canary": 88.0,
    "publish": 92.0,
    "ranker": 94.0,
}
_log = logging.getLogger(__name__)

Tidy = Callable[[Shop], Mapping[str, int]]  # returns what it counted
Percent = Callable[[float], None]
Build = Callable[[str | None, Percent], BuildReport]  # of a model beside the live index; None: of the active one, live
Hear = Callable[[str, float, Mapping[str, float]], None]  # step, percent of the loop, figures


class Ranking(Protocol):
    """How a ranker is trained, judged and made active."""

    def active(self, shop: Shop) -> str:
        """Return the version that orders the hits now."""

    def train(self, shop: Shop, *, name: str, seed: int, hear: Percent) -> Mapping[str, Any]:
        """Write a ranker version from the log and return its metrics; one of the name that is whole is taken as it is.

        Raises:
            InputError: there is too little to learn from.
        """

    def gate(self, shop: Shop, version: str) -> Judgement:
        """Judge a version beside the active one on the newest searches, which taught neither."""

    def activate(self, shop: Shop, version: str) -> None:
        """Let it order the hits from now on."""

    def clear(self, shop: Shop, *, keep: int) -> None:
        """Remove old versions that nobody needs."""


@dataclass(frozen=True, slots=True)
class LoopParts:
    """What a loop works with."""

    trainers: Callable[[], Trainers]
    build: Build
    tidy: Mapping[str, Tidy] = field(default_factory=dict)  # done first: name, work
    ranking: Ranking | None = None  # None: no ranker is trained
    clock: Callable[[], float] = time.time  # seconds since 1970


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of a step; `reason` says why there was nothing to do, or what was decided."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    state: Literal["done", "nothing to do"] = "done"


class _Steps:
    """Takes each step once, however often the loop is killed, and notes what came of it.

    `notes` is what later steps and the report go on with; it holds what JSON holds.
    """

    def __init__(
        self, cursor: Mapping[str, Any], keep: Callable[[Mapping[str, Any]], None], hear: Hear, job: Job
    ) -> None:
        self.steps = [Step(**step) for step in cursor.get("steps", ())]
        self.notes: dict[str, Any] = dict(cursor.get("notes", {}))
        self._keep, self._hear, self._job = keep, hear, job

    def take(self, name: str, work: Callable[[], _Done]) -> bool:
        """Return whether the step did its work, now or before a kill; what fails is noted and ends nothing else."""
        known = next((step for step in self.steps if step.name == name), None)
        if known is None:
            self.tell(name, 0.0)
            begun = time.monotonic()
            try:
                done = work()
                known = Step(name, done.state, done.reason, _since(begun), done.figures)
            except Cancelled:
                raise
            except (InputError, NotFoundError, ConflictError, RefusedError, UnavailableError) as error:
                _log.warning("step %s of loop %s failed: %s", name, self._job.id, error)
                known = Step(name, "failed", str(error), _since(begun), {})
            self.steps.append(known)
            self.keep()
        return known.state == "done"

    def keep(self) -> None:
        """Put on the disk what was done."""
        self._keep({"steps": [asdict(step) for step in self.steps], "notes": self.notes})

    def tell(self, name: str, percent: float, figures: Mapping[str, float] | None = None) -> None:
        """Tell how far a step is, in percent of itself."""
        begins = _PERCENT.get(name, 0.0)
        ends = min((begin for begin in _PERCENT.values() if begin > begins), default=100.0)
        self._hear(name, begins + (ends - begins) * min(100.0, percent) / 100, figures or {})

    def hearing(self, name: str) -> Percent:
        """Return what is told the percent of a step."""
        return lambda percent: self.tell(name, percent)


def run_loop(
    shop: Shop, job: Job, *, parts: LoopParts, keep: Callable[[Mapping[str, Any]], None], hear: Hear
) -> LoopReport:
    """Run one loop to its end, write its page, and return what came of it.

    Args:
        shop: its index answers all the while.
        job: with the argument seed; what `keep` was given last stands in its cursor.
        parts: what trains, builds and ranks.
        keep: stores how far this is.
        hear: is told how far it is; may raise to stop, which leaves what is live as it is.

    Raises:
        Cancelled: somebody asked for that.
    """
    begun = parts.clock()
    identity = new_version(datetime.fromtimestamp(job.created_at, UTC))
    earlier = list(islice(reports(shop.folder, besides=identity), HISTORY))
    steps = _Steps(job.cursor, keep, hear, job)
    marks = earlier[0].marks if earlier else {}
    if "traffic" not in steps.notes:
        _note_traffic(shop, steps, marks)
        steps.notes["started"] = begun
        steps.keep()
    for name, work in parts.tidy.items():
        steps.take(name, lambda work=work: _Done(work(shop)))  # type: ignore[misc]
    steps.take("catalogue", lambda: _catalogue(shop, parts, steps))
    embedding = _new_embedding(shop, job, identity, parts, steps, marks)
    ranker = _new_ranker(shop, job, identity, parts, steps, is_new_embedding=bool(embedding and embedding.published))
    report = _report(shop, identity, parts, steps, embedding, ranker, marks)
    write_report(shop.folder, report, page_of(report, earlier), keep=shop.settings.loop.keep_reports)
    clear_models(shop, keep=shop.settings.loop.keep_models)
    if parts.ranking is not None:
        parts.ranking.clear(shop, keep=2 * shop.settings.loop.keep_models)
    return report


def gate_queries(shop: Shop) -> list[LabelledQuery]:
    """Return what the gate asks: the newest held-out photos of the click log, and the labelled photos of the settings.

    Where both are there, each is a slice, so that a model that only pleases one of them does not pass.

    Raises:
        NotFoundError, InputError: the file of labelled photos is missing, or cannot be read.
    """
    settings = shop.settings.loop
    clicked = held_out_queries(shop)[-settings.gate_queries :]
    if not settings.queries:
        return clicked
    labelled = read_queries(shop.folder / settings.queries)
    return [
        *(replace(query, slice=SEARCH_CLICKS) for query in clicked),
        *(replace(query, slice=query.slice or LABELLED) for query in labelled),
    ]


# ---- the catalogue ----


def _catalogue(shop: Shop, parts: LoopParts, steps: _Steps) -> _Done:
    """Publish what changed since the live version was built: a build costs what is new."""
    live = current(shop.index_root)
    manifest = manifest_if_readable(shop.index_root / live) if live else None
    if manifest is not None and not shop.catalogue.changes_since(int(manifest.extra["seq"]), limit=1):
        return _nothing(f"the catalogue is as index {live} has it")
    if live is None and not shop.catalogue.counts().images:
        return _nothing("the catalogue has no images yet")
    built = parts.build(None, steps.hearing("catalogue"))
    return _Done({"index": built.version, "images": built.images, "duplicates": built.duplicates})


# ---- the embedding ----


def _new_embedding(
    shop: Shop, job: Job, identity: str, parts: LoopParts, steps: _Steps, marks: Mapping[str, Any]
) -> Verdict | None:
    """Train a model, and let it go live if it finds more than the one that is; None: nothing was trained."""
    notes = steps.notes
    went_on = (
        steps.take("mine", lambda: _mine(shop, steps))
        and steps.take("train", lambda: _train(shop, job, identity, parts, steps, marks))
        and steps.take("index", lambda: _index(shop, parts, steps))
        and steps.take("gate", lambda: _gate(shop, steps))
        and notes["gate"]["passed"]
        and steps.take("canary", lambda: _canary(shop, steps))
        and notes["canary"]["passed"]
        and steps.take("publish", lambda: _publish(shop, steps))
        and notes["live"]["passed"]
    )
    if "trained" not in notes:
        return None
    if not went_on:
        _drop_index(shop, notes)
    reasons = [_said(step) for step in steps.steps if step.name in ("index", "gate", "canary", "publish")]
    return Verdict(
        before=notes["trained"]["start"],
        version=notes["trained"]["version"],
        published=bool(went_on),
        reason=next(reason for reason in reversed(reasons) if reason),
        metrics=notes["trained"]["metrics"],
        gate=notes.get("gate"),
        canary=notes.get("live") or notes.get("canary"),
    )


def _mine(shop: Shop, steps: _Steps) -> _Done:
    if reason := _not_yet(shop, steps.notes):
        return _nothing(reason)
    if current(shop.index_root) is None:
        return _nothing("nothing is live to be compared with; import a catalogue")
    if reason := too_few_queries(shop, gate_queries(shop)):
        return _nothing(f"what is trained could not be judged: {reason}")
    mined = mine_shop(
        shop, shop.folder / TRIPLETS, hear=lambda percent, counts: steps.tell("mine", percent, counts)
    ).as_json()
    names = ("sessions", "used", "clicks", "used_clicks", "triplets")
    figures = {name: mined[name] for name in names}
    if not mined["triplets"]:
        return _Done(figures, "no click of the log can be believed; `sameitem mine` says why", "nothing to do")
    return _Done(figures)


def _train(shop: Shop, job: Job, identity: str, parts: LoopParts, steps: _Steps, marks: Mapping[str, Any]) -> _Done:
    settings, start = shop.settings.loop, shop.active_model
    every = settings.detector_every
    detector = every > 0 and int(marks.get("without_detector", 0)) + 1 >= every
    arguments = {
        "model": "embedding",
        "triplets": "",
        "minutes": settings.train_minutes,
        "seed": job.arguments["seed"],
        "name": f"{LOOP}{identity}",
        "detector": detector,
    }
    result = train(
        shop,
        replace(job, arguments=arguments),
        trainers=parts.trainers,
        tell=lambda _phase, percent, figures: steps.tell("train", percent, figures),
    )
    steps.notes["detector"] = detector
    if not result["version"]:
        return _Done(result["metrics"], f"nothing better than {start} was found", "nothing to do")
    steps.notes["trained"] = {"start": start, "version": result["version"], "metrics": result["metrics"]}
    return _Done({"version": result["version"], "detector": detector, **result["metrics"]})


def _index(shop: Shop, parts: LoopParts, steps: _Steps) -> _Done:
    """Build the new model's index beside the live one, from the same state of the catalogue or a later one."""
    notes, version = steps.notes, steps.notes["trained"]["version"]
    known = comparable_index(shop.index_root, version)
    notes["index"] = known or parts.build(version, steps.hearing("index")).version
    notes["live_before"] = _live(shop)
    return _Done({"index": notes["index"]})


def _gate(shop: Shop, steps: _Steps) -> _Done:
    """Ask both versions what the gate knows the answer of; a model that finds no more is not worth a switch."""
    notes, version = steps.notes, steps.notes["trained"]["version"]
    comparison = compare_indexes(
        shop,
        notes["live_before"],
        notes["index"],
        gate_queries(shop),
        lambda _step, percent: steps.tell("gate", percent),
    )
    judgement = judge(comparison, shop.settings.gate, needs_gain=True)
    notes["gate"] = {**asdict(judgement), "comparison": comparison.as_json()}
    return _Done(_gate_figures(comparison), _decided(version, comparison, judgement))


def _gate_figures(comparison: Comparison) -> dict[str, Any]:
    whole = comparison.whole
    main = whole.measures[MAIN]
    return {"queries": whole.queries, "products": whole.products, "before": main.before, "after": main.after}


def _decided(version: str, comparison: Comparison, judgement: Judgement) -> str:
    if judgement.passed:
        return f"model {version} finds more: {MAIN} changes by {described(comparison.whole)}"
    return f"the gate kept model {version} out: {'; '.join(judgement.reasons)}"


def _canary(shop: Shop, steps: _Steps) -> _Done:
    notes = steps.notes
    asked = ask_canary(
        shop,
        notes["live_before"],
        notes["index"],
        draw_sample(shop, notes["index"]),
        is_live=False,
        hear=steps.hearing("canary"),
    )
    notes["canary"] = asked.as_json()
    kept_out = f"the canary kept model {notes['trained']['version']} out: {'; '.join(asked.reasons)}"
    return _Done(_canary_figures(asked), "" if asked.passed else kept_out)


def _canary_figures(asked: CanaryReport) -> dict[str, Any]:
    return {"photos": asked.after.photos, "images": asked.after.images}


def _publish(shop: Shop, steps: _Steps) -> _Done:
    """Switch, ask once more as users do, and go back if the answers are not what they were before the switch."""
    notes, start = steps.notes, shop.settings.model.active
    index, before, version = notes["index"], notes["live_before"], notes["trained"]["version"]
    if _live(shop) not in (index, before):
        raise ConflictError(
            f"index {_live(shop)} went live while model {version} was judged beside {before}; nothing was switched"
        )
    shop.check_model(version)
    go_forward(shop.models_root, shop.index_root, index, start=start)
    sample = draw_sample(shop, index).part(AFTERWARDS)
    asked = ask_canary(shop, before, index, sample, is_live=True, hear=steps.hearing("publish"))
    notes["live"] = asked.as_json()
    if not asked.passed:
        go_back(shop.models_root, shop.index_root, before, start=start)
        return _Done(_canary_figures(asked), f"model {version} was live and taken back: {'; '.join(asked.reasons)}")
    clear_versions(shop)
    return _Done({"index": index, **_canary_figures(asked)})


def _drop_index(shop: Shop, notes: Mapping[str, Any]) -> None:
    """Remove the index of a model that is kept out, which would take the place of one to go back to.

    The model stays for a while, and `sameitem models compare` builds its index again from features that are kept.
    """
    index = notes.get("index")
    if index and index != current(shop.index_root) and (shop.index_root / index).is_dir():
        remove(shop.index_root, index)


# ---- the ranker ----


def _new_ranker(
    shop: Shop, job: Job, identity: str, parts: LoopParts, steps: _Steps, *, is_new_embedding: bool
) -> Verdict | None:
    """Train a ranker and let it order the hits if it does so better; None: nothing was trained."""
    ranking = parts.ranking
    if ranking is None:
        return None
    notes = steps.notes

    def decide() -> _Done:
        if not is_new_embedding and (reason := _not_yet(shop, notes)):
            return _nothing(reason)
        version, before = f"{LOOP}{identity}", ranking.active(shop)
        notes.setdefault("ranker", {"before": before, "version": version})
        try:
            metrics = ranking.train(shop, name=version, seed=job.arguments["seed"], hear=steps.hearing("ranker"))
        except InputError as error:
            return _nothing(str(error))
        judgement = ranking.gate(shop, version)
        notes["ranker"] |= {"metrics": dict(metrics), "gate": asdict(judgement), "published": judgement.passed}
        if not judgement.passed:
            return _Done(metrics, f"the gate kept ranker {version} out: {'; '.join(judgement.reasons)}")
        ranking.activate(shop, version)
        return _Done(metrics, f"ranker {version} orders the hits now: it passed the gate")

    if not steps.take("ranker", decide):
        return None
    found = notes["ranker"]
    reason = next(step.reason for step in steps.steps if step.name == "ranker")
    return Verdict(
        before=found["before"],
        version=found["version"],
        published=found["published"],
        reason=reason,
        metrics=found["metrics"],
        gate=found["gate"],
        canary=None,
    )


# ---- what the loop says of itself ----


def _note_traffic(shop: Shop, steps: _Steps, marks: Mapping[str, Any]) -> None:
    """Note what came in since the last loop, and since the last one that trained, as of one moment."""
    since_loop = traffic_since(shop.database, Place(**marks.get("seen", {})))
    since_training = traffic_since(shop.database, Place(**marks.get("trained", {})))
    steps.notes["traffic"] = _traffic_json(since_loop)
    steps.notes["newly_clicked"] = since_training.newly_clicked
    steps.notes["end"] = asdict(since_loop.end)


def _traffic_json(traffic: Traffic) -> dict[str, Any]:
    share = wilson_interval(traffic.clicked, traffic.searches) if traffic.searches else None
    return {
        "searches": traffic.searches,
        "clicked": traffic.clicked,
        "click_through": share.mean if share else None,
        "low": share.low if share else None,
        "high": share.high if share else None,
    }


def _not_yet(shop: Shop, notes: Mapping[str, Any]) -> str:
    """Return why there is too little to learn from since the last training; "" = there is enough."""
    new, least = notes["newly_clicked"], shop.settings.loop.least_new_clicks
    if new >= least:
        return ""
    return f"{new:,} searches were clicked since the last training, it takes {least:,} (loop.least_new_clicks)"


def _report(
    shop: Shop,
    identity: str,
    parts: LoopParts,
    steps: _Steps,
    embedding: Verdict | None,
    ranker: Verdict | None,
    marks: Mapping[str, Any],
) -> LoopReport:
    notes, live = steps.notes, current(shop.index_root)
    failed = [step for step in steps.steps if step.state == "failed"]
    learned = embedding is not None or ranker is not None or "detector" in notes
    without = int(marks.get("without_detector", 0))
    if "detector" in notes:
        without = 0 if notes["detector"] else without + 1
    return LoopReport(
        id=identity,
        started=_iso(notes["started"]),
        seconds=round(parts.clock() - notes["started"], 1),
        published=any(one is not None and one.published for one in (embedding, ranker)),
        reason=_reason(steps, embedding, ranker),
        steps=tuple(steps.steps),
        embedding=embedding,
        ranker=ranker,
        live={
            "index": live,
            "model": read_manifest(shop.index_root / live).model_version if live else None,
            "ranker": parts.ranking.active(shop) if parts.ranking else "",
        },
        traffic=notes["traffic"],
        warnings=tuple(_said(step) for step in failed),
        marks={
            "seen": notes["end"],
            "trained": notes["end"] if learned else marks.get("trained", {}),
            "without_detector": without,
        },
    )


def _reason(steps: _Steps, embedding: Verdict | None, ranker: Verdict | None) -> str:
    """Return in one sentence what was decided and why."""
    said: list[str] = []
    for verdict, what, names in ((embedding, "model", ("mine", "train")), (ranker, "ranker", ("ranker",))):
        stopped = [step for step in steps.steps if step.name in names and step.state != "done"]
        said += [verdict.reason] if verdict else [f"no new {what}: {_said(step)}" for step in stopped]
    return "; ".join(said)


def _said(step: Step) -> str:
    return f"{step.name} failed: {step.reason}" if step.state == "failed" else step.reason


def _live(shop: Shop) -> str:
    live = current(shop.index_root)
    if live is None:
        raise UnavailableError("no index version is published yet; run `sameitem build`")
    return live


def _nothing(reason: str) -> _Done:
    return _Done({}, reason, "nothing to do")


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 2)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
