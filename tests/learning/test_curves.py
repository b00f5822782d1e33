import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sameitem.learning.curves import write_page


def noted(folder: Path, *, steps: int = 60) -> Path:
    """Curves of a mask phase and two rounds of search, the last line cut off by a kill."""
    lines = [
        {"phase": 0, "name": "mask", "step": step, "loss": 1 / (1 + step), "active": 0.5, "photos": 40, "s": 0.5}
        for step in range(steps)
    ]
    for number in (1, 2):
        lines.append({"phase": number, "name": f"search {number}", "step": 0, "certainty": -2.0, "photos": 32, "s": 4})
        lines.append({"phase": number, "name": f"search {number}", "step": 1, "judge_loss": 0.7, "s": 1})
    file = folder / "curves.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"phase": 2, "na')
    return file


def page(folder: Path, curves: Path) -> str:
    write_page(curves, folder / "page.html", {"seed": 7, "recipe": {"rows": 48, "note": "<b>"}})
    return (folder / "page.html").read_text()


def charts(text: str) -> dict[str, ElementTree.Element]:
    """The page's drawings by what they say they are."""
    found = re.findall(r"<figcaption>([^<]+)<small>.*?(<svg.*?</svg>)", text, re.DOTALL)
    quoted = [(title, re.sub(r"=([^\s'/>]+)(?=[\s/>])", r"='\1'", drawing)) for title, drawing in found]
    return {title: ElementTree.fromstring(drawing) for title, drawing in quoted}


def test_each_phase_has_its_curves_with_their_first_and_last_values(tmp_path: Path) -> None:
    text = page(tmp_path, noted(tmp_path))
    assert [part for part in re.findall("<h2>([^<]+)", text)] == [
        "Rectangle through the soft mask",
        "Rectangle by judging crops",
        "Settings",
    ]
    assert "<p class=note>60 steps." in text
    assert "4 steps, 2 rounds." in text
    assert re.search(r"Loss<small>0\.408 to 0\.0174", text)
    assert "Photos a second<small>80 to 80" in text


def test_the_curve_falls_as_the_loss_does_and_stays_in_its_frame(tmp_path: Path) -> None:
    (drawing,) = (chart for title, chart in charts(page(tmp_path, noted(tmp_path))).items() if title == "Loss")
    line = next(part for part in drawing.iter("polyline") if part.get("class") == "raw")
    corners = [tuple(map(float, corner.split(","))) for corner in line.get("points", "").split()]
    assert len(corners) == 60
    assert all(one[0] < other[0] and one[1] <= other[1] for one, other in pairwise(corners))
    _, _, width, height = map(float, drawing.get("viewBox", "").split())
    assert all(0 <= x <= width and 0 <= y <= height for x, y in corners)


def test_a_long_run_is_drawn_with_few_points(tmp_path: Path) -> None:
    text = page(tmp_path, noted(tmp_path, steps=5000))
    assert len(text) < 60_000


def test_the_page_needs_nothing_else_and_quotes_what_it_is_given(tmp_path: Path) -> None:
    text = page(tmp_path, noted(tmp_path))
    assert not re.search(r"<script|<link|https?://|src=|@import", text)
    assert "<td>seed<td>7" in text
    assert "<td>rows<td>48" in text
    assert "<b>" not in text


@pytest.mark.parametrize("content", [None, "", '{"phase": 0, "name": "mask", "step": 0, "loss": NaN}\n'])
def test_a_run_that_has_nothing_to_show_yet_has_a_page(tmp_path: Path, content: str | None) -> None:
    curves = tmp_path / "curves.jsonl"
    if content is not None:
        curves.write_text(content)
    assert "Settings" in page(tmp_path, curves)


@pytest.mark.parametrize("value", [0.0, 5.0, -3e-9, 1e12])
def test_a_figure_that_never_changes_is_drawn_as_a_level_line(tmp_path: Path, value: float) -> None:
    curves = tmp_path / "curves.jsonl"
    lines = [{"phase": 0, "name": "mask", "step": step, "loss": value} for step in range(3)]
    curves.write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawing = charts(page(tmp_path, curves))["Loss"]
    heights = {mark.get("cy") for mark in drawing.iter("circle")}
    assert len(heights) == 1
