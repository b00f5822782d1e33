"""The report of an evaluation."""

import base64
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sameitem.core.errors import InputError
from sameitem.core.records import Box, ImageId, Pixels, ProductId
from sameitem.evaluation.evaluate import (
    DEPTHS,
    BoxFigures,
    CategoryFigures,
    Evaluation,
    Figures,
    LabelledQuery,
    Outcome,
    ShownHit,
)
from sameitem.evaluation.report import GREEN, HITS, MISSES, SheetRow, as_table, contact_sheet, write_html
from sameitem.metrics.intervals import Interval

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RED, BLUE = (np.full((40, 60, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))


def outcome(product_id: str = "P1", *, rank: int | None = 1, wanted: int = 1, name: str = "q.jpg") -> Outcome:
    relevant = np.zeros(100, np.bool_)
    if rank is not None:
        relevant[rank - 1] = True
    return Outcome(
        query=LabelledQuery(Path(name), ProductId(product_id), slice="dim"),
        relevant=relevant,
        wanted=wanted,
        shown=tuple(ShownHit(ImageId(n), ProductId(f"H{n}"), 0.9 - n / 10) for n in range(5)),
        category_id="shoes",
        confidence=0.5,
        ms=12.0,
    )


def evaluation(*outcomes: Outcome, **changes: Any) -> Evaluation:
    figures = Figures(len(outcomes), {k: Interval(0.5, 0.25, 0.75) for k in DEPTHS}, 0.125, 0.375)
    plain = Evaluation(
        index_version="index-1",
        model_version="base-1",
        gallery=1234,
        whole=figures,
        slices={"dim": figures},
        category=CategoryFigures(3, {"model": 0.875, "knn": 0.625, "fused": 0.9375}, 0.0625),
        boxes=BoxFigures(7, 0.5625, 0.6875, 0.4375),
        failed={},
        unknown=0,
        dropped=0,
        ms={"p50": 12.0, "p99": 34.0},
        outcomes=outcomes,
    )
    return replace(plain, **changes)


def text_of(measured: Evaluation) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(as_table(measured))
    return captured.get()


def page_of(measured: Evaluation, folder: Path, picture: Pixels | None = RED, photo: Pixels | None = BLUE) -> str:
    file = folder / "report.html"
    write_html(measured, file, picture_of=lambda _: picture, photo_of=lambda _: photo)
    return file.read_text(encoding="utf-8")


class TestBothReports:
    @pytest.fixture(params=["table", "page"])
    def report(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        return text_of if request.param == "table" else lambda measured: page_of(measured, tmp_path)

    def test_give_the_figures_of_the_whole_and_of_each_slice(self, report: Any) -> None:
        text = report(evaluation(outcome()))
        assert text.count("[0.250, 0.750]") == 2 * len(DEPTHS)
        for expected in (
            "all",
            "dim",
            "0.125",
            "0.375",
            "1,234 images",
            "12 ms",
            "34 ms",
            "Category right, of 3 queries: model 0.875, kNN vote 0.625, fused 0.938 (calibration error 0.062)",
            "Boxes found, of 7 labelled queries: mean IoU 0.562, at least 0.5 for 0.688, at least 0.7 for 0.438",
        ):
            assert expected in text

    def test_say_what_is_not_in_the_figures_and_why(self, report: Any) -> None:
        text = report(evaluation(outcome(), unknown=3, dropped=4, failed={"no photo": 5}))
        assert "Left out: 3 whose product is not in the catalogue" in text
        assert "Counted as missed: 4 whose product selection dropped" in text
        assert "Left out: 5; no photo" in text

    def test_are_silent_about_what_did_not_happen(self, report: Any) -> None:
        text = report(evaluation(outcome(), category=None, boxes=None))
        assert not re.search("Left out|Counted as missed|Category|Boxes", text)


class TestThePage:
    def test_shows_names_as_text_whatever_they_hold(self, tmp_path: Path) -> None:
        evil = "<script>alert('1')</script>\"'><img src=x onerror=alert(1)>"
        measured = evaluation(
            replace(outcome(evil, name=f"{evil}.jpg"), shown=(ShownHit(ImageId(1), ProductId(evil), 0.5),)),
            index_version=evil,
            model_version=evil,
            slices={evil: evaluation(outcome()).whole},
            failed={evil: 1},
        )
        page = page_of(measured, tmp_path)
        assert "<script" not in page
        assert "<img src=x" not in page
        assert set(re.findall(r"<img src=(.{5})", page)) == {"'data"}

    def test_needs_nothing_but_itself(self, tmp_path: Path) -> None:
        page = page_of(evaluation(outcome(), outcome(rank=3)), tmp_path)
        assert not re.search(r"https?:|//[a-z]|<link|<script|@import|url\(", page)
        assert len(re.findall(r"src='data:image/jpeg;base64,", page)) == 12
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]

    def test_draws_the_labelled_box_in_green_and_the_detected_one_in_red(self, tmp_path: Path) -> None:
        boxed = replace(outcome(), true_box=Box(0.1, 0.1, 0.5, 0.5), box=Box(0.6, 0.2, 0.9, 0.9))
        photo = np.full((300, 300, 3), 255, np.uint8)
        page = page_of(evaluation(boxed), tmp_path, photo=photo)
        encoded = re.findall(r"base64,([^']+)", page)[0]
        drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)
        columns = {name: drawn[:, :, one] - drawn[:, :, other] > 60 for name, one, other in (("g", 1, 0), ("r", 0, 1))}
        for name, low, high in (("g", 30, 150), ("r", 180, 270)):
            across = np.flatnonzero(columns[name].any(axis=0))
            assert (across.min(), across.max()) == pytest.approx((low, high), abs=6)
        assert "labelled in green, detected in red" in page

    def test_says_where_a_picture_is_missing(self, tmp_path: Path) -> None:
        page = page_of(evaluation(outcome()), tmp_path, picture=None, photo=None)
        assert page.count("picture missing") == 6
        assert "<img" not in page

    def test_shows_the_worst_misses_first_then_hits(self, tmp_path: Path) -> None:
        found = [outcome("last", rank=1), outcome("third", rank=2), outcome("second", rank=60)]
        never = [outcome("first", rank=None)]
        page = page_of(evaluation(*found, *never), tmp_path)
        places = [page.index(f"<b>{name}</b>") for name in ("first", "second", "third", "last")]
        assert places == sorted(places)
        for verdict in ("found at 1", "found at 2", "found at 60", "not among the first 100"):
            assert f"<br>{verdict}<br>" in page

    def test_tells_a_product_that_selection_dropped_from_one_that_was_not_found(self, tmp_path: Path) -> None:
        assert "<br>dropped by selection<br>" in page_of(evaluation(outcome(rank=None, wanted=0)), tmp_path)

    def test_marks_right_hits_alone(self, tmp_path: Path) -> None:
        page = page_of(evaluation(outcome(rank=3)), tmp_path)
        classes = re.findall(r"<figure class=(\w+)", page)
        assert classes == ["query", "wrong", "wrong", "right", "wrong", "wrong"]

    def test_stays_small_however_many_queries_there_are(self, tmp_path: Path) -> None:
        many = [outcome(rank=None) for _ in range(MISSES + 9)] + [outcome() for _ in range(HITS + 9)]
        page = page_of(evaluation(*many), tmp_path)
        assert page.count("<div class=case>") == MISSES + HITS
        assert f"{MISSES} of {MISSES + 9}" in page
        assert f"{HITS} of {HITS + 9}" in page

    def test_takes_file_names_that_are_no_text(self, tmp_path: Path) -> None:
        assert "q?.jpg" in page_of(evaluation(outcome(name="q\udcff.jpg")), tmp_path)

    def test_that_cannot_be_written_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot write the report .*: Is a directory"):
            write_html(evaluation(outcome()), tmp_path, picture_of=lambda _: RED, photo_of=lambda _: BLUE)

    @pytest.mark.slow
    @pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
    def test_runs_nothing_and_shows_its_cases_in_a_browser(self, tmp_path: Path) -> None:
        evil = "<script>document.title='run'</script>"
        page_of(evaluation(outcome(evil), outcome(rank=None)), tmp_path)
        command = [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
            f"{tmp_path}/report.html",
        ]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        assert "<title>Evaluation of index-1</title>" in dom
        assert dom.count('<figure class="') == 12
        assert "</figcaption></figure></div>" in dom


class TestTheContactSheet:
    def test_frames_right_hits_in_green_and_no_others(self) -> None:
        sheet = np.asarray(contact_sheet([SheetRow(RED, "dim", [(BLUE, False), (BLUE, True), (BLUE, False)])]))
        green = (sheet == tuple(bytes.fromhex(GREEN[1:]))).all(axis=2)
        columns = np.flatnonzero(green.sum(axis=0) > 100)  # the two upright sides
        assert len(columns) == 8
        assert columns[-1] - columns[0] == 167
        blue = np.flatnonzero((sheet == (0, 0, 200)).all(axis=2).any(axis=0))
        assert blue[0] < columns[0] < columns[-1] < blue[-1]

    def test_has_a_row_per_query_and_room_for_the_longest_list(self) -> None:
        hits = [(BLUE, False)] * 5
        small = contact_sheet([SheetRow(RED, "", hits[:2])])
        large = contact_sheet([SheetRow(RED, "", hits), SheetRow(RED, "", [])])
        assert large.width - small.width == 3 * (168 + 12)
        assert large.height - small.height == 168 + 16 + 12

    def test_keeps_the_shape_of_pictures(self) -> None:
        sheet = np.asarray(contact_sheet([SheetRow(RED, "", [(BLUE, False)])]))
        blue = (sheet == (0, 0, 200)).all(axis=2)
        across, down = np.ptp(np.flatnonzero(blue.any(axis=0))) + 1, np.ptp(np.flatnonzero(blue.any(axis=1))) + 1
        assert across / down == pytest.approx(60 / 40, abs=0.02)

    def test_of_nothing_is_a_picture_too(self) -> None:
        assert isinstance(contact_sheet([]), Image.Image)
