import base64
import re

from hypothesis import given
from hypothesis import strategies as st

from sameitem.clicks.signing import SearchIds

OURS = SearchIds(b"s" * 32)
GIVEN = OURS.give(1_700_000_000.9)


@given(now=st.floats(0, 4_102_444_800))
def test_an_id_says_when_it_was_given_and_fits_a_url(now: float) -> None:
    search_id = OURS.give(now)
    assert re.fullmatch(r"[A-Za-z0-9_-]{44}", search_id)
    assert OURS.given_at(search_id) == int(now)


def test_no_two_ids_are_the_same() -> None:
    assert len({OURS.give(1e9) for _ in range(1000)}) == 1000


@given(bit=st.integers(0, 33 * 8 - 1))
def test_an_id_of_which_one_bit_was_changed_is_not_ours(bit: int) -> None:
    changed = bytearray(base64.urlsafe_b64decode(GIVEN))
    changed[bit // 8] ^= 1 << bit % 8
    assert OURS.given_at(base64.urlsafe_b64encode(changed).decode()) is None


@given(text=st.text() | st.from_regex(r"[A-Za-z0-9_-]{44}", fullmatch=True))
def test_what_somebody_made_up_is_not_ours(text: str) -> None:
    assert OURS.given_at(text) is None


def test_neither_is_an_id_of_another_shop_nor_ours_with_something_around_it() -> None:
    for other in (SearchIds(b"t" * 32).give(1e9), f"{GIVEN}\n", f" {GIVEN}", f"{GIVEN}=", GIVEN[:-1], f"{GIVEN[:-1]}é"):
        assert OURS.given_at(other) is None
