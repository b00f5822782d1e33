import io
import math

from hypothesis import given
from hypothesis.strategies import floats, lists
from rich.console import Console

from sameitem.apps.curves_view import CurvesView, sparkline


@given(values=lists(floats(-1e6, 1e6), min_size=1, max_size=300))
def test_a_sparkline_has_a_bar_per_value_up_to_forty_and_stays_in_its_range(values: list[float]) -> None:
    line = sparkline(values)
    assert len(line) == min(40, len(values))
    assert set(line) <= set("▁▂▃▄▅▆▇█")


def test_a_sparkline_rises_and_falls_with_its_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, 0]) == "█▁"
    assert sparkline([3.0]) == "▁"
    assert sparkline([0.0] * 60 + [1.0] * 60) == "▁" * 20 + "█" * 20


def test_what_no_bar_can_show_leaves_a_gap() -> None:
    assert sparkline([0.0, math.nan, 7.0, math.inf, -math.inf, 0.0]) == "▁ █  ▁"
    assert sparkline([math.nan]) == " "
    assert sparkline([1e308] * 80) == " " * 40


def test_a_training_that_went_astray_is_still_shown() -> None:
    view = CurvesView()
    for loss in (0.8, math.nan):
        view.note("mask", {"loss": loss})
    assert drawn(view).split() == ["loss", "▁", "nan"]


def drawn(view: CurvesView) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_view_says_step_figures_and_speed_and_draws_the_phase_so_far() -> None:
    view = CurvesView()
    for step, loss in enumerate((0.8, 0.4, 0.2), 1):
        said = view.note("mask", {"loss": loss, "photos": 40, "s": 0.5, "step": step, "steps": 100})
    assert said == "step 3 of 100  loss 0.2  80 photos/s"
    assert [line.split() for line in drawn(view).splitlines()] == [["loss", "█▃▁", "0.2"]]
    assert view.note("mask", {"loss": 0.1, "step": 4, "steps": 100}, brief=True) == "step 4 of 100"
    view.note("search 1", {"certainty": -2.0, "step": 1, "steps": 4})
    assert "loss" not in drawn(view)


def test_before_the_first_step_there_is_nothing_to_see() -> None:
    assert drawn(CurvesView()).strip() == ""
