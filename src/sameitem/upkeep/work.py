"""What each kind of job does: the long commands of the command line and of REST are the same functions."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from sameitem.catalog.fetch import Fetcher
from sameitem.catalog.importer import import_catalogue, majority_stays
from sameitem.clicks.counts import take_in
from sameitem.clicks.importer import import_clicks
from sameitem.core.database import write
from sameitem.core.errors import InputError, UnavailableError
from sameitem.core.jobs import Cancelled, Job, Progress, Work
from sameitem.pipeline.compaction import compact
from sameitem.pipeline.offline import BuildReport, build
from sameitem.pipeline.retention import prune_shop
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.generations import Hear, activate, compare_models
from sameitem.upkeep.loop import LoopParts, Ranking, Tidy, run_loop
from sameitem.upkeep.loop_ranking import LogRanking
from sameitem.upkeep.loop_report import page_path
from sameitem.upkeep.mining import mine_shop
from sameitem.upkeep.ranking import train_ranker_version
from sameitem.upkeep.training import Trainers, learned, train

Tell = Callable[[str, float, Mapping[str, float]], None]  # what is done, percent, counts
TIDY: Mapping[str, Tidy] = {  # what a loop does before it learns, by name of the step
    "retention": lambda shop: asdict(prune_shop(shop, time.time())),
    "counts": lambda shop: {"rows": take_in(shop.database)},
}
_STEPS = {  # of a build, in order: percent of its time, roughly
    "selection": 2,
    "features": 70,
    "near-duplicates": 5,
    "category": 5,
    "index": 5,
    "certificate": 9,
    "scores": 2,
    "publish": 2,
}
_COMPACTION_BEGINS = {"follow": 0.0, "index": 10.0, "certificate": 40.0, "publish": 98.0}  # percent
_SEARCHES = 80.0  # percent where the searching of a comparison begins, after the build it may need
_BEGINS = dict(zip(_STEPS, accumulate(_STEPS.values(), initial=0), strict=False))  # percent where a step begins


def silent(_step: str, _percent: float, _counts: Mapping[str, float]) -> None:
    """Tell nobody."""


def work_of(
    shop: Shop,
    *,
    tell: Tell = silent,
    confirm: Callable[[int, int], bool] = majority_stays,
    trainers: Callable[[], Trainers] = learned,
    tidy: Mapping[str, Tidy] | None = None,
    ranking: Ranking | None = LogRanking(),  # noqa: B008 - it has no state
) -> Mapping[str, Work]:
    """Return what to do for each kind of job.

    Args:
        shop: the jobs' shop.
        tell: is told how far the running job is, besides the job table.
        confirm: asked before a full feed deletes: how many products of how many.
        trainers: loads the functions that train, when a job trains.
        tidy: what a loop does first, by name; None: what this release has.
        ranking: trains and judges rankers in a loop; None: no ranker is trained.
    """

    def run_import(job: Job, _progress: Progress) -> dict[str, Any]:
        uploaded = bool(job.arguments["uploaded"])
        source = shop.folder / job.arguments["source"]
        try:
            report = import_catalogue(
                source,
                catalogue=shop.catalogue,
                intake=shop.intake,
                store=shop.photos,
                table=shop.jobs,
                job=job,
                settings=shop.settings.imports,
                max_file_bytes=shop.settings.intake.max_file_bytes,
                errors_folder=shop.folder,
                columns=job.arguments["columns"],
                full=job.arguments["full"],
                confirm=confirm,
                local_root=None if uploaded else Path("/"),
                on_progress=lambda percent, counts: tell("import", percent, counts),
            )
        except (InputError, UnavailableError, Cancelled):
            if uploaded:  # the job ends here and is not taken up again, as it would be after a kill
                source.unlink()
            raise
        if uploaded:
            source.unlink()
        return asdict(report)

    def run_import_clicks(job: Job, _progress: Progress) -> dict[str, Any]:
        with Fetcher(shop.settings.imports, shop.settings.intake.max_file_bytes) as fetcher:
            report = import_clicks(
                Path(job.arguments["source"]),
                columns=job.arguments["columns"],
                images_of=shop.catalogue.images,
                clicks=shop.clicks,
                intake=shop.intake,
                query_photos=shop.query_photos,
                fetch=fetcher.fetch,
                table=shop.jobs,
                job=job,
                settings=shop.settings.imports,
                max_file_bytes=shop.settings.intake.max_file_bytes,
                errors_folder=shop.folder,
                local_root=Path("/"),
                on_progress=lambda percent, counts: tell("import-clicks", percent, counts),
            )
        return asdict(report)

    def run_mine(job: Job, progress: Progress) -> dict[str, Any]:
        def hear(percent: float, counts: Mapping[str, int]) -> None:
            progress(percent=percent, counts=counts)
            tell("mine", percent, counts)

        return mine_shop(shop, Path(job.arguments["out"]), hear=hear).as_json()

    def run_build(_job: Job, progress: Progress) -> dict[str, Any]:
        return asdict(_built(shop, _heard(progress, tell)))

    def run_compact(_job: Job, progress: Progress) -> dict[str, Any]:
        def hear(step: str, share: float) -> None:
            percent = _COMPACTION_BEGINS[step] + share
            progress(percent=percent)
            tell(step, percent, {})

        return asdict(compact(shop, tell=hear, now=datetime.now(UTC)))

    return {
        "import": run_import,
        "import-clicks": run_import_clicks,
        "mine": run_mine,
        "build": run_build,
        "compact": run_compact,
        **_model_work(shop, tell, trainers),
        "loop": _loop_work(shop, tell, trainers, TIDY if tidy is None else tidy, ranking),
    }


def _loop_work(
    shop: Shop, tell: Tell, trainers: Callable[[], Trainers], tidy: Mapping[str, Tidy], ranking: Ranking | None
) -> Work:
    """Return the job that learns from the clicks since the last one."""

    def run(job: Job, progress: Progress) -> dict[str, Any]:
        def keep(cursor: Mapping[str, Any]) -> None:
            with write(shop.database) as connection:
                progress.checkpoint(connection, percent=told[0], counts={}, cursor=cursor)

        def hear(step: str, percent: float, figures: Mapping[str, float]) -> None:
            told[0] = percent
            progress(percent=percent)
            tell(step, percent, figures)

        told = [job.percent]
        parts = LoopParts(
            trainers=trainers,
            build=lambda beside, hear_build: _built(shop, lambda _step, percent: hear_build(percent), beside=beside),
            tidy=tidy,
            ranking=ranking,
        )
        report = run_loop(shop, job, parts=parts, keep=keep, hear=hear)
        return {**report.as_json(), "report": str(page_path(shop.folder, report.id))}

    return run


def _model_work(shop: Shop, tell: Tell, trainers: Callable[[], Trainers]) -> dict[str, Work]:
    """Return the jobs that make a model version, compare two, or switch to one."""

    def run_train(job: Job, progress: Progress) -> dict[str, Any]:
        def hear(step: str, percent: float, figures: Mapping[str, float]) -> None:
            progress(percent=percent)
            tell(step, percent, figures)

        if job.arguments["model"] == "ranker":
            name, seed = job.arguments["name"], job.arguments["seed"]
            return asdict(
                train_ranker_version(shop, name=name, seed=seed, hear=lambda step, percent: hear(step, percent, {}))
            )
        return train(shop, job, trainers=trainers, tell=hear)

    def run_compare(job: Job, progress: Progress) -> dict[str, Any]:
        comparison = compare_models(
            shop,
            job.arguments["before"],
            job.arguments["after"],
            queries=_path(job.arguments["queries"]),
            build=lambda model: _built(shop, _heard(progress, tell, ends=_SEARCHES), beside=model).version,
            hear=_heard(progress, tell, begins=_SEARCHES, ends=99.0),
        )
        return comparison.as_json()

    def run_activate(job: Job, progress: Progress) -> dict[str, Any]:
        def keep(cursor: Mapping[str, Any]) -> None:
            with write(shop.database) as connection:
                progress.checkpoint(connection, percent=99.0, counts={}, cursor=cursor)

        return activate(
            shop,
            job.arguments["version"],
            force=job.arguments["force"],
            queries=_path(job.arguments["queries"]),
            cursor=job.cursor,
            keep=keep,
            build=lambda model: _built(shop, _heard(progress, tell, ends=_SEARCHES), beside=model).version,
            hear=_heard(progress, tell, begins=_SEARCHES, ends=99.0),
        )

    return {"train": run_train, "compare": run_compare, "activate": run_activate}


def _built(shop: Shop, hear: Hear, *, beside: str | None = None) -> BuildReport:
    """Build the active model's index and publish it, or another's beside the live one; `hear`: percent of the build."""
    return build(
        shop,
        tell=lambda step, share: hear(step, _BEGINS[step] + share * _STEPS[step]),
        now=datetime.now(UTC),
        beside=beside,
    )


def _heard(progress: Progress, tell: Tell, *, begins: float = 0.0, ends: float = 100.0) -> Hear:
    """Return what passes on the percent of a part of the job that goes from one percent of it to another."""

    def hear(step: str, percent: float) -> None:
        percent = begins + (ends - begins) * percent / 100
        progress(percent=percent)
        tell(step, percent, {})

    return hear


def _path(text: str) -> Path | None:
    return Path(text) if text else None
