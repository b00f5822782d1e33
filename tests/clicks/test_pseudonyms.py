from hypothesis import given
from hypothesis import strategies as st

from sameitem.clicks.pseudonyms import Pseudonyms

OURS = Pseudonyms(b"s" * 32)


@given(one=st.text(min_size=1, max_size=128), other=st.text(min_size=1, max_size=128))
def test_the_same_id_has_the_same_name_and_another_another(one: str, other: str) -> None:
    assert OURS.of_user(one) == Pseudonyms(b"s" * 32).of_user(one)
    assert (OURS.of_user(one) == OURS.of_user(other)) == (one == other)


@given(text=st.text(min_size=1))
def test_user_session_and_another_shop_give_other_names(text: str) -> None:
    assert len({OURS.of_user(text), OURS.of_session(text), Pseudonyms(b"t" * 32).of_user(text)}) == 3


@given(text=st.text(min_size=5))
def test_a_name_is_short_and_says_nothing_of_the_id(text: str) -> None:
    name = OURS.of_user(text)
    assert len(name) <= 32
    assert text not in name


def test_nobody_stays_nobody() -> None:
    assert (OURS.of_user(""), OURS.of_session("")) == ("", "")


def test_simulated_users_are_told_apart_from_people() -> None:
    assert OURS.of_user("simulated-1").startswith("simulated-")
    assert OURS.of_user("simulated-1") != OURS.of_user("simulated-2")
    assert not OURS.of_user("1").startswith("simulated")
