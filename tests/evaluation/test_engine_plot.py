from pathlib import Path
from xml.etree import ElementTree

import pytest

from sameitem.core.errors import InputError
from sameitem.evaluation.engine_bench import Bench, Point
from sameitem.evaluation.engine_plot import plot, write_plot

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [
    Point("sameitem", "fast", 0.95, 9000, on_front=True),
    Point("sameitem", "wide", 1.0, 3000, on_front=True),
    Point("sameitem", "waste", 0.97, 2000, on_front=False),
    Point("peer <1>", "fast", 0.9, 4000, on_front=True),
    Point("peer <1>", "wide", 0.999, 3010, on_front=True),
    Point("peer <1>", "hopeless", 0.3, 90000, on_front=True),
]


def drawing() -> ElementTree.Element:
    return ElementTree.fromstring(plot(POINTS, title="drawn"))


def test_each_engine_has_a_line_that_falls_to_the_right_inside_the_picture() -> None:
    picture = drawing()
    _, _, width, height = map(float, picture.get("viewBox", "").split())
    lines = [line.get("points", "").split() for line in picture.iter(f"{SVG}polyline")]
    assert [len(corners) for corners in lines] == [2, 2]
    for corners in lines:
        (left, top), (right, bottom) = (map(float, corner.split(",")) for corner in corners)
        assert 0 < left < right < width
        assert 0 < top < bottom < height


def test_engines_are_told_apart_by_name_and_shape() -> None:
    picture = drawing()
    names = [text for text in picture.iter(f"{SVG}text") if text.text in ("sameitem", "peer <1>")]
    assert len(names) == 2
    assert abs(float(names[0].get("y", "")) - float(names[1].get("y", ""))) > 15  # though the lines end at one height
    marks = [part for part in picture.iter(f"{SVG}path") if part.get("transform")]
    assert len({part.get("d") for part in marks}) == 2
    assert len(marks) == 5 + 2  # what is drawn, and one beside each name


def test_a_plot_of_nothing_and_one_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        plot(POINTS[-1:], title="drawn")
    result = Bench(1000, 64, 0.9, [], {}, {}, POINTS)
    write_plot(result, tmp_path / "plot.svg")
    assert "1,000 vectors of 64" in (tmp_path / "plot.svg").read_text()
    with pytest.raises(InputError, match="cannot write the plot"):
        write_plot(result, tmp_path / "nowhere" / "plot.svg")
