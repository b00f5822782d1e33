"""Activates one model after the other, until killed: `activate_process.py SHOP`; says when each activation is done."""

import sys
from dataclasses import replace
from pathlib import Path

from generation_shop import GOOD, POOR, open_models
from sameitem.catalog.store import Listing
from sameitem.core.database import write
from sameitem.core.jobs import run_job, run_jobs
from sameitem.core.records import ProductId
from sameitem.upkeep.work import work_of

if __name__ == "__main__":
    shop = open_models(Path(sys.argv[1]))
    run_jobs(shop.jobs, work_of(shop))  # what was left behind goes on
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        product = shop.catalogue.product(ProductId("P00"))
        with write(shop.database) as connection:  # so that no index is fresh enough and each is built
            shop.catalogue.upsert(connection, [Listing(replace(product, price=(product.price or 0.0) + 1))])
        other = POOR if shop.active_model == GOOD else GOOD
        job = shop.jobs.submit("activate", {"version": other, "force": True, "queries": ""})
        result = run_job(shop.jobs, job.id, work_of(shop)).result
        sys.stdout.write(f"{result['index']}\n")
        sys.stdout.flush()
