"""An import in a process of its own, to be killed: FOLDER DATABASE_URL, prints a line after every batch."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sameitem.catalog.importer import ImportReport, import_catalogue
from sameitem.catalog.store import Catalogue
from sameitem.core.database import open_database
from sameitem.core.image_intake import ImageIntake
from sameitem.core.jobs import Job, JobTable, Progress, run_job
from sameitem.core.photo_store import PhotoStore
from sameitem.core.settings import ImportSettings, IntakeSettings

ARGUMENTS = {"source": "feed.csv"}


def main(folder: Path, url: str) -> ImportReport:
    engine = open_database(url)
    table = JobTable(engine)
    reports: list[ImportReport] = []
    patient = IntakeSettings(workers=1, deadline_s=60)  # a busy machine must not decide what is taken
    with ImageIntake(patient) as intake:

        def work(job: Job, _progress: Progress) -> Mapping[str, Any]:
            report = import_catalogue(
                folder / "feed.csv",
                catalogue=Catalogue(engine),
                intake=intake,
                store=PhotoStore(folder / "images"),
                table=table,
                job=job,
                settings=ImportSettings(batch_rows=3, fetch_workers=2),
                max_file_bytes=1_000_000,
                errors_folder=folder,
                full=True,
                local_root=folder,
                on_progress=lambda percent, _counts: print(percent, flush=True),  # noqa: T201 - the parent listens
            )
            reports.append(report)
            return asdict(report)

        job = table.unfinished("import", ARGUMENTS) or table.submit("import", ARGUMENTS)
        run_job(table, job.id, {"import": work})
    engine.dispose()
    return reports[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
