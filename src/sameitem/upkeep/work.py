"""What each kind of job does: the long commands of the command line and of REST are the same functions."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from sameitem.catalog.fetch import Fetcher
from sameitem.catalog.importer import import_catalogue, majority_stays
from sameitem.clicks.importer import import_clicks
from sameitem.core.errors import InputError, UnavailableError
from sameitem.core.jobs import Cancelled, Job, Progress, Work
from sameitem.pipeline.offline import build
from sameitem.pipeline.shop import Shop

Tell = Callable[[str, float, Mapping[str, int]], None]  # what is done, percent, counts
_STEPS = {  # of a build, in order: percent of its time, roughly
    "selection": 2,
    "features": 70,
    "near-duplicates": 5,
    "category": 5,
    "index": 5,
    "certificate": 11,
    "publish": 2,
}
_BEGINS = dict(zip(_STEPS, accumulate(_STEPS.values(), initial=0), strict=False))  # percent where a step begins


def silent(_step: str, _percent: float, _counts: Mapping[str, int]) -> None:
    """Tell nobody."""


def work_of(
    shop: Shop, *, tell: Tell = silent, confirm: Callable[[int, int], bool] = majority_stays
) -> Mapping[str, Work]:
    """Return what to do for each kind of job.

    Args:
        shop: the jobs' shop.
        tell: is told how far the running job is, besides the job table.
        confirm: asked before a full feed deletes: how many products of how many.
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

    def run_build(_job: Job, progress: Progress) -> dict[str, Any]:
        def hear(step: str, share: float) -> None:
            percent = _BEGINS[step] + share * _STEPS[step]
            progress(percent=percent)
            tell(step, percent, {})

        return asdict(build(shop, tell=hear, now=datetime.now(UTC)))

    return {"import": run_import, "import-clicks": run_import_clicks, "build": run_build}
