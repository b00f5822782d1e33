from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sameitem.clicks.held_out import is_held_out
from sameitem.clicks.log import EVENT_TYPES, Event, Search, Session, Shown
from sameitem.clicks.triplets import Distance, Distances, MiningReport, MiningRules, Picture, Tally, Triplet, mine
from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import ContentHash, ImageId, ProductId

PHOTO = 0.0
RULES = MiningRules(same_item=1.0, other_item=3.0)


def on_a_line(anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
    """Pictures whose content is a number are as far apart as the numbers; "?" is unknown."""

    def at(picture: Picture) -> float:
        return np.nan if picture.content_hash == "?" else float(picture.content_hash)

    return np.array([[abs(at(a) - at(o)) for o in others] for a in anchors]).reshape(len(anchors), len(others))


def session(
    at: Sequence[str],
    clicked: Sequence[int],
    *,
    search_id: str = "t",
    user: str = "",
    photo: str = str(PHOTO),
    kind: str = "click",
    prefix: str = "p",
) -> Session:
    """Show one image per position on the line, each of its own product; `clicked` are ranks."""
    shown = tuple(
        Shown(rank, ProductId(f"{prefix}{rank}"), "main", content_ids(position), 0.5)
        for rank, position in enumerate(at, 1)
    )
    search = Search(search_id, 1.0, photo, None, "", "", "", user, "", shown)
    done = tuple(
        Event(f"e{rank}", search_id, kind, shown[rank - 1].product_id, "main", rank)  # type: ignore[arg-type]
        for rank in clicked
    )
    return Session(search, done)


def content_ids(position: str) -> ImageId:
    """Make the image id tell the content: "gone" is not in the catalogue."""
    return ImageId({"gone": -1, "?": -2}.get(position, 0) or round(float(position) * 10) + 10)


def pictures_of(image_ids: Sequence[ImageId]) -> Mapping[ImageId, Picture]:
    return {
        image_id: Picture(ContentHash("?" if image_id == -2 else str((image_id - 10) / 10)))
        for image_id in image_ids
        if image_id != -1
    }


def mined(sessions: Sequence[Session], rules: MiningRules = RULES) -> tuple[list[Triplet], MiningReport]:
    tally = Tally()
    found = list(
        mine(
            sessions,
            Distances(on_a_line, on_a_line, on_a_line),
            pictures_of=pictures_of,
            rules=rules,
            tally=tally,
        )
    )
    return found, tally.report()


def pairs(triplets: Sequence[Triplet]) -> list[tuple[str, str]]:
    return [(triplet.positive, triplet.negative) for triplet in triplets]


def test_trusted_clicks_are_paired_with_trusted_non_clicks() -> None:
    triplets, report = mined([session(["0.5", "9", "1.0", "7"], [1, 3])])
    assert pairs(triplets) == [("0.5", "9.0"), ("1.0", "9.0"), ("0.5", "7.0"), ("1.0", "7.0")]
    assert [triplet.weight for triplet in triplets] == [0.25] * 4
    assert (report.used_sessions, report.used_clicks, report.used_non_clicks, report.triplets) == (1, 2, 2, 4)


def test_a_click_far_from_the_photo_is_noise() -> None:
    triplets, report = mined([session(["0.5", "2", "9"], [1, 2])])
    assert pairs(triplets) == [("0.5", "9.0")]
    assert report.dropped_clicks == {"too far from the photo": 1}


def test_a_negative_is_far_from_the_photo_and_from_every_click_trusted_or_not() -> None:
    triplets, report = mined([session(["0.5", "2", "6", "20", "5"], [1, 3])])
    assert pairs(triplets) == [("0.5", "20.0")]
    assert report.dropped_non_clicks == {"may be the same item": 2}


def test_places_more_than_two_below_the_lowest_click_were_not_seen() -> None:
    triplets, report = mined([session(["9", "0.5", "8", "7", "6", "5"], [2])])
    assert pairs(triplets) == [("0.5", "9.0"), ("0.5", "8.0"), ("0.5", "7.0")]
    assert report.dropped_non_clicks == {"not seen": 2}


@pytest.mark.parametrize("kind", ["click", "cart", "purchase"])
def test_clicks_carts_and_purchases_count(kind: str) -> None:
    assert len(mined([session(["0.5", "9"], [1], kind=kind)])[0]) == 1


@pytest.mark.parametrize("kind", ["impression", "dismiss"])
def test_a_session_without_a_click_gives_nothing(kind: str) -> None:
    triplets, report = mined([session(["0.5", "9"], [1], kind=kind)])
    assert not triplets
    assert report.dropped_sessions == {"nothing clicked": 1}
    assert report.dropped_non_clicks == {"nothing clicked": 2}


def test_a_click_that_was_dismissed_later_is_a_non_click() -> None:
    one = session(["0.5", "0.7", "9"], [1, 3])
    third = one.search.shown[2]
    dismissed = Event("d", "t", "dismiss", third.product_id, third.image_name, third.rank)
    triplets, report = mined([replace(one, events=(*one.events, dismissed))], replace(RULES, same_item=100.0))
    assert pairs(triplets) == [("0.5", "9.0")]
    assert (report.clicks, report.non_clicks) == (1, 2)


def test_dismissing_one_image_takes_no_click_off_another() -> None:
    one = session(["0.5", "0.7", "9"], [1])
    second = one.search.shown[1]
    dismissed = Event("d", "t", "dismiss", second.product_id, second.image_name, second.rank)
    assert pairs(mined([replace(one, events=(*one.events, dismissed))])[0]) == [("0.5", "9.0")]


def test_a_list_that_was_clicked_nearly_whole_is_not_believed() -> None:
    assert mined([session(["0.5"] * 7 + ["9", "9"], [1, 2, 3, 4, 5, 6, 7])])[1].dropped_sessions == {
        "nearly all clicked": 1
    }
    assert mined([session(["0.5"] * 6 + ["9", "9"], [1, 2, 3, 4, 5, 6])])[1].used_sessions == 1


def test_a_photo_that_was_not_kept_teaches_nothing() -> None:
    assert mined([session(["0.5", "9"], [1], photo="")])[1].dropped_sessions == {"photo not kept": 1}


def test_another_image_of_a_clicked_product_is_no_negative() -> None:
    plain = session(["0.5", "9", "8"], [1])
    shown = list(plain.search.shown)
    shown[1] = replace(shown[1], product_id=shown[0].product_id, image_name="side")
    triplets, report = mined([replace(plain, search=replace(plain.search, shown=tuple(shown)))])
    assert pairs(triplets) == [("0.5", "8.0")]
    assert report.dropped_non_clicks == {"product was clicked": 1}


def test_an_image_shown_twice_counts_at_its_best_rank() -> None:
    plain = session(["0.5", "9", "0.5", "8"], [1])
    shown = list(plain.search.shown)
    shown[2] = replace(shown[2], product_id=shown[0].product_id)
    triplets, report = mined([replace(plain, search=replace(plain.search, shown=tuple(shown)))])
    assert pairs(triplets) == [("0.5", "9.0")]
    assert report.dropped_non_clicks == {"not seen": 1, "shown twice": 1}


def test_what_cannot_be_compared_is_not_used() -> None:
    triplets, report = mined([session(["0.5", "?", "gone", "9"], [1])], replace(RULES, seen_after_click=3))
    assert pairs(triplets) == [("0.5", "9.0")]
    assert report.dropped_non_clicks == {"cannot be compared": 1, "left the catalogue": 1}


@pytest.mark.parametrize(
    ("lost", "reason"), [("gone", "a clicked image has left the catalogue"), ("?", "cannot be compared")]
)
def test_a_click_that_cannot_be_compared_makes_every_non_click_doubtful(lost: str, reason: str) -> None:
    triplets, report = mined([session(["0.5", lost, "9"], [1, 2])])
    assert not triplets
    assert report.dropped_non_clicks == {reason: 1}
    assert report.dropped_sessions == {"no trusted non-click": 1}


def test_sessions_of_one_user_teach_up_to_the_limit() -> None:
    log = [session(["0.5", "9"], [1], search_id=f"t{n}", user="a" if n < 5 else f"b{n}") for n in range(8)]
    triplets, report = mined(log, replace(RULES, sessions_per_user=2))
    assert [triplet.search_id for triplet in triplets] == ["t0", "t1", "t5", "t6", "t7"]
    assert report.dropped_sessions == {"too many sessions of this user": 3}


def test_sessions_that_teach_nothing_do_not_use_up_a_users_limit() -> None:
    log = [session(["0.5", "9"], [1] if n == 3 else [], search_id=f"t{n}", user="a") for n in range(4)]
    assert len(mined(log, replace(RULES, sessions_per_user=1))[0]) == 1


def test_many_accounts_together_cannot_push_one_pair_of_products_beyond_the_limit() -> None:
    log = [session(["0.5", "9", "8"], [1], search_id=f"t{n}", user=f"u{n}") for n in range(10)]
    triplets, report = mined(log, replace(RULES, triplets_per_pair=3))
    assert pairs(triplets) == [("0.5", "9.0"), ("0.5", "8.0")] * 3
    assert report.dropped_sessions == {"limit of triplets": 7}


def test_a_pair_of_products_is_told_from_others_by_both_its_sides() -> None:
    log = [session(["0.5", "9"], [1], search_id=prefix, prefix=prefix) for prefix in "abcefghi"]
    assert len(mined(log, replace(RULES, triplets_per_pair=1))[0]) == 8


def test_a_long_list_gives_no_more_triplets_than_the_limit_nearest_ranks_first() -> None:
    triplets, report = mined([session(["0.5", "9", "8", "7", "1"], [1, 5])], replace(RULES, triplets_per_session=3))
    assert pairs(triplets) == [("0.5", "9.0"), ("1.0", "9.0"), ("0.5", "8.0")]
    assert report.dropped_non_clicks == {"limit of triplets": 1}
    assert sum(triplet.weight for triplet in triplets) == pytest.approx(1)


def test_the_user_of_a_triplet_is_the_user_of_its_search_else_the_session() -> None:
    log = [session(["0.5", "9"], [1], search_id=f"t{n}", user=user) for n, user in enumerate(["ann", "bob", "ann", ""])]
    assert [triplet.user for triplet in mined(log)[0]] == ["ann", "bob", "ann", ""]
    one = replace(log[3], search=replace(log[3].search, session_id="evening"))
    assert [triplet.user for triplet in mined([one])[0]] == ["evening"]


def test_what_lies_between_the_thresholds_is_what_the_user_made_of_it_or_nothing() -> None:
    one = session(["2", "2.1", "8"], [1])
    crossed, _ = mined([one], replace(RULES, same_item=3.0, other_item=0.05))
    assert pairs(crossed) == [("2.0", "2.1"), ("2.0", "8.0")]
    apart, report = mined([one], replace(RULES, same_item=1.0, other_item=3.0))
    assert (apart, dict(report.dropped_clicks)) == ([], {"too far from the photo": 1})


def test_images_are_compared_with_clicked_images_on_a_scale_of_their_own() -> None:
    def wider(anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
        return 10 * on_a_line(anchors, others)

    def negatives(between_images: Distance) -> list[str]:
        found = mine(
            [session(["0.5", "0.9", "4"], [1])],
            Distances(on_a_line, on_a_line, between_images),
            pictures_of=pictures_of,
            rules=replace(RULES, same_item=0.6, other_item=0.7),
            tally=Tally(),
        )
        return [triplet.negative for triplet in found]

    assert negatives(on_a_line) == ["4.0"]
    assert negatives(wider) == ["0.9", "4.0"]


def test_a_photo_that_is_held_out_to_compare_models_teaches_through_none_of_its_searches() -> None:
    log = [session(["0.5", "9"], [1], search_id=f"t{n}", photo=f"{n % 100 / 1000}") for n in range(300)]
    triplets, report = mined(log)
    left_out = [one for one in log if is_held_out(one.search.photo_hash)]
    taught = {one.search.photo_hash for one in log if one not in left_out}
    assert {triplet.photo.content_hash for triplet in triplets} == taught
    assert dict(report.dropped_sessions)["held out to compare models"] == len(left_out) > 0


def test_sessions_are_taken_one_by_one() -> None:
    def endless() -> Iterator[Session]:
        while True:
            yield session(["0.5", "9"], [1])

    found = mine(
        endless(),
        Distances(on_a_line, on_a_line, on_a_line),
        pictures_of=pictures_of,
        rules=RULES,
        tally=Tally(),
    )
    assert [next(found).positive for _ in range(3)] == ["0.5"] * 3


def test_a_distance_of_another_shape_is_refused() -> None:
    def flat(anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
        return np.zeros((2, len(others)))

    with pytest.raises(ShapeError, match="need distances of shape"):
        list(
            mine(
                [session(["1", "2"], [1])],
                Distances(flat, flat, flat),
                pictures_of=pictures_of,
                rules=RULES,
                tally=Tally(),
            )
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"same_item": -1.0},
        {"same_item": float("nan")},
        {"other_item": -1.0},
        {"clicked_share": 0.0},
        {"seen_after_click": -1},
        {"triplets_per_pair": 0},
    ],
)
def test_rules_that_contradict_themselves_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="need"):
        replace(RULES, **wrong)  # type: ignore[arg-type]


positions = st.sampled_from(["gone", "?", "0.2", "0.9", "2", "4", "7", "30"])
drawn_sessions = st.lists(
    st.builds(
        lambda at, clicks, user, photo, kind: session(
            at, sorted({1 + click % len(at) for click in clicks} if at else ()), user=user, photo=photo, kind=kind
        ),
        st.lists(positions, max_size=9),
        st.lists(st.integers(0, 50), max_size=9),
        st.sampled_from(["", "a", "b"]),
        st.sampled_from(["0", "5", "?", ""]),
        st.sampled_from(EVENT_TYPES),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(log=drawn_sessions, user_limit=st.integers(1, 3), pair_limit=st.integers(1, 4), session_limit=st.integers(1, 6))
def test_everything_is_used_or_counted_under_a_reason(
    log: list[Session], user_limit: int, pair_limit: int, session_limit: int
) -> None:
    rules = replace(
        RULES, sessions_per_user=user_limit, triplets_per_pair=pair_limit, triplets_per_session=session_limit
    )
    triplets, report = mined(log, rules)
    values = asdict(report)
    for kind in ("sessions", "clicks", "non_clicks"):
        assert values[kind] == values[f"used_{kind}"] + sum(values[f"dropped_{kind}"].values())
    assert report.sessions == len(log)
    assert report.clicks + report.non_clicks == sum(len(one.search.shown) for one in log)
    assert report.triplets == len(triplets)
    assert sum(triplet.weight for triplet in triplets) == pytest.approx(report.used_sessions)


def plain_triplets(one: Session) -> list[tuple[str, str]]:
    """The rule written out, without limits, for lists whose pictures can all be compared."""
    at = {place.rank: float(pictures_of([place.image_id])[place.image_id].content_hash) for place in one.search.shown}
    clicked = sorted({event.rank for event in one.events if event.rank is not None})
    if not clicked or (len(clicked) >= 5 and len(clicked) > 0.75 * len([r for r in at if r <= clicked[-1] + 2])):
        return []
    seen = [rank for rank in at if rank <= clicked[-1] + 2 and rank not in clicked]
    anchors = [PHOTO, *(at[rank] for rank in clicked)]
    negatives = [rank for rank in seen if min(abs(at[rank] - anchor) for anchor in anchors) >= RULES.other_item]
    positives = [rank for rank in clicked if abs(at[rank] - PHOTO) <= RULES.same_item]
    return [(str(at[positive]), str(at[negative])) for negative in negatives for positive in positives]


@settings(deadline=None)
@given(at=st.lists(st.sampled_from(["0.2", "0.9", "2", "4", "7", "30"]), min_size=1, max_size=9), data=st.data())
def test_triplets_are_those_of_the_rule_written_out(at: list[str], data: st.DataObject) -> None:
    clicked = sorted(data.draw(st.sets(st.integers(1, len(at)))))
    one = session(at, clicked)
    assert pairs(mined([one])[0]) == plain_triplets(one)
