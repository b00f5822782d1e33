"""What each kind of job does."""

import shutil
from pathlib import Path

import pytest

from sameitem.core.errors import InputError
from sameitem.core.jobs import Job, run_job
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from sameitem.upkeep.work import work_of
from shops import open_shop, run

pytestmark = pytest.mark.slow


def uploaded(shop: Shop, text: str) -> Path:
    """Put a file where the server puts uploads."""
    (shop.folder / "uploads").mkdir()
    file = shop.folder / "uploads" / "feed.csv"
    file.write_text(text, encoding="utf-8")
    return file


def arguments_of(shop: Shop, file: Path) -> dict[str, object]:
    return {"source": str(file.relative_to(shop.folder)), "columns": {}, "full": False, "uploaded": True}


class TestAnUploadedImport:
    def test_removes_its_file_when_done(self, shop: Shop) -> None:
        file = uploaded(shop, "product_id,title\nnew,A lamp\n")
        assert run(shop, "import", **arguments_of(shop, file))["added"] == 1
        assert not file.exists()

    def test_reads_no_file_of_the_server(self, shop: Shop, drawn: DemoShop) -> None:
        photo = next((drawn.folder / "images").iterdir())
        shutil.copy(photo, shop.folder / "uploads.jpg")
        file = uploaded(shop, f"product_id,image\nabsolute,{photo}\nrelative,../uploads.jpg\n")
        assert run(shop, "import", **arguments_of(shop, file))["set_aside"] == 2
        assert shop.catalogue.images("absolute") == shop.catalogue.images("relative") == []

    def test_removes_its_file_when_it_cannot_be_read(self, shop: Shop) -> None:
        file = uploaded(shop, "\0\1\2")
        with pytest.raises(InputError):
            run(shop, "import", **arguments_of(shop, file))
        assert not file.exists()

    def test_removes_its_file_when_cancelled(self, shop: Shop) -> None:
        file = uploaded(shop, "product_id,title\nnew,A lamp\n")
        job = shop.jobs.submit("import", arguments_of(shop, file))
        work = work_of(shop)["import"]

        def cancelled(job: Job, progress: object) -> dict[str, object]:
            shop.jobs.request_cancel(job.id)  # as somebody does while it runs
            return work(job, progress)  # type: ignore[arg-type]

        assert run_job(shop.jobs, job.id, {"import": cancelled}).state == "cancelled"
        assert not file.exists()

    def test_keeps_its_file_when_interrupted_so_that_it_can_be_taken_up_again(self, shop: Shop) -> None:
        def interrupt(_step: str, _percent: float, _counts: object) -> None:
            raise KeyboardInterrupt

        file = uploaded(shop, "product_id,title\nnew,A lamp\n")
        job = shop.jobs.submit("import", arguments_of(shop, file))
        with pytest.raises(KeyboardInterrupt):
            run_job(shop.jobs, job.id, work_of(shop, tell=interrupt))
        assert file.exists()
        assert run_job(shop.jobs, job.id, work_of(shop)).result["added"] == 1
        assert not file.exists()


def test_an_import_of_a_file_of_ones_own_leaves_it_there(tmp_path: Path) -> None:
    shop = open_shop(tmp_path / "shop")
    feed = tmp_path / "feed.csv"
    feed.write_text("product_id,title\nnew,A lamp\n", encoding="utf-8")
    run(shop, "import", source=str(feed), columns={}, full=False, uploaded=False)
    assert feed.exists()
    shop.close()


def test_a_build_tells_its_steps_in_percent_that_rise_from_0_to_100(shop: Shop) -> None:
    told: list[tuple[str, float]] = []
    job = shop.jobs.submit("build", {})
    work = work_of(shop, tell=lambda step, percent, _counts: told.append((step, percent)))
    result = run_job(shop.jobs, job.id, work).result
    percents = [percent for _, percent in told]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert {step for step, _ in told} == set(result["stages_s"])
