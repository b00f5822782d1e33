"""The page of a loop: everything it says, nothing that could run."""

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from sameitem.upkeep.loop_page import page_of
from sameitem.upkeep.loop_report import LoopReport, Step, Verdict

PART = {
    "queries": 512,
    "products": 180,
    "measures": {name: {"before": 0.5, "after": 0.6} for name in ("recall@1", "recall@10", "mrr")},
    "delta": {name: {"mean": 0.1, "low": 0.02, "high": 0.18} for name in ("recall@1", "recall@10", "mrr")},
    "verdict": "better",
}
GATE: dict[str, Any] = {
    "passed": True,
    "reasons": [],
    "not_judged": ["hats"],
    "comparison": {**PART, "wins": 41, "losses": 7, "slices": {"<b>": PART}, "left_out": 3, "failed": 0},
}
REPORT = LoopReport(
    id="20261126-030000-0000",
    started="2026-11-26T03:00:00+00:00",
    seconds=79.5,
    published=True,
    reason="model <i>x</i> finds more",
    steps=(Step("mine", "done", "", 2.0, {"triplets": 23_111}), Step("ranker", "failed", "no <clicks>", 0.1, {})),
    embedding=Verdict("base-2", "loop-1", True, "it finds more", {"recall_after": 0.73}, GATE, None),
    ranker=None,
    live={"index": "20261126-030100-0000", "model": "loop-1", "ranker": "looks"},
    traffic={"searches": 3000, "clicked": 1500, "click_through": 0.5, "low": 0.48, "high": 0.52},
    warnings=("ranker failed: no <clicks>",),
    marks={},
)


class Tags(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> Tags:
    parser = Tags()
    parser.feed(page)
    return parser


def test_says_what_was_decided_by_how_much_and_what_failed() -> None:
    page = parsed(page_of(REPORT, []))
    text = "".join(page.text)
    for said in (
        "Published",
        "Model <i>x</i> finds more.",
        "base-2 → loop-1",
        "+10.0 [+2.0, +18.0]",
        "50.0% [48.0%, 52.0%]",
        "ranker failed: no <clicks>",
        "triplets 23,111",
        "Not judged, of too few products: hats.",
        "Left out: 3 queries whose product only one of the two galleries has.",
    ):
        assert said in text, said


def test_nothing_of_a_name_is_read_as_a_tag_and_nothing_can_run_or_load() -> None:
    assert not {"i", "script", "img", "link", "iframe"} & set(parsed(page_of(REPORT, [])).tags)


def test_the_history_is_drawn_from_the_second_loop_on() -> None:
    earlier = [replace(REPORT, id=f"202611{day}-030000-0000", published=day % 2 == 0) for day in range(25, 15, -1)]
    assert "svg" not in parsed(page_of(REPORT, [])).tags
    page = parsed(page_of(REPORT, earlier))
    assert (page.tags.count("svg"), page.tags.count("circle")) == (2, 2 * 11)


def test_a_loop_with_nothing_to_do_has_a_page_too() -> None:
    idle = replace(
        REPORT,
        published=False,
        embedding=None,
        warnings=(),
        traffic={"searches": 0, "clicked": 0, "click_through": None, "low": None, "high": None},
        live={"index": None, "model": None, "ranker": ""},
    )
    text = "".join(parsed(page_of(idle, [idle, REPORT])).text)
    assert "Nothing published" in text
