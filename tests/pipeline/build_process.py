"""Builds and publishes again and again, until killed: `build_process.py SHOP DATABASE_URL`."""

import sys
from pathlib import Path

from sameitem.core.jobs import run_job
from sameitem.core.settings import load_settings
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.work import work_of

if __name__ == "__main__":
    shop = Shop(Path(sys.argv[1]), load_settings(Path(sys.argv[1]), {"catalogue": {"url": sys.argv[2]}})[0])
    while True:
        job = shop.jobs.unfinished("build", {}) or shop.jobs.submit("build", {})
        result = run_job(shop.jobs, job.id, work_of(shop)).result
        sys.stdout.write(f"{result['version']}\n")
        sys.stdout.flush()
