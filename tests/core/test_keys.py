"""API keys: what is stored of them, who is let in, and when no more."""

import hashlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.keys import SCOPES, Key, KeyRing, KeyTable, keys

ID, SECRET = "0123456789ab", "s" * 43
KEY = Key(ID, "till", ("search",), 1.0, None)
RING = KeyRing({ID: (KEY, hashlib.sha256(SECRET.encode()).hexdigest())})


def ticking() -> Callable[[], float]:
    moments = iter(range(1_700_000_000, 1_800_000_000))
    return lambda: float(next(moments))


def test_a_key_is_what_its_text_checks_as(engine: Engine) -> None:
    table = KeyTable(engine, clock=ticking())
    key, text = table.create(" the till ", ["events", "search", "events"])
    assert (key.name, key.scopes, key.revoked_at) == ("the till", ("search", "events"), None)
    assert table.check(text) == key
    assert table.list() == [key]


def test_nothing_that_opens_anything_is_stored(engine: Engine) -> None:
    table = KeyTable(engine)
    _, text = table.create("till", ["admin"])
    secret = text.split("_", 2)[2]
    with engine.connect() as connection:
        row = connection.execute(select(keys)).one()
    assert secret not in repr(row)
    assert row.hash == hashlib.sha256(secret.encode()).hexdigest()
    assert json.loads(row.scopes) == ["admin"]


def test_no_two_keys_are_alike(engine: Engine) -> None:
    table = KeyTable(engine)
    texts = [table.create("till", ["search"])[1] for _ in range(5)]
    assert len({text.split("_", 2)[1] for text in texts}) == len({text.split("_", 2)[2] for text in texts}) == 5
    assert len({table.check(text) for text in texts}) == 5


def test_a_revoked_key_opens_nothing_and_stays_in_the_list(engine: Engine) -> None:
    table = KeyTable(engine, clock=ticking())
    key, text = table.create("till", ["search"])
    other, other_text = table.create("feed", ["write"])
    revoked = table.revoke(key.id)
    assert revoked.revoked_at is not None
    assert table.check(text) is None
    assert table.check(other_text) == other
    assert table.list() == [revoked, other]
    assert table.revoke(key.id) == revoked  # once more changes nothing


def test_revoking_what_is_not_there_says_so_without_repeating_a_secret(engine: Engine) -> None:
    table = KeyTable(engine)
    key, text = table.create("till", ["search"])
    for wrong in ("nobody", text, text[:-1]):
        with pytest.raises(NotFoundError, match="keys list") as error:
            table.revoke(wrong)
        assert text.split("_", 2)[2][:4] not in str(error.value)
    assert table.check(text) == key


@pytest.mark.parametrize(
    ("name", "scopes", "told"),
    [
        ("", ["search"], "a name of 1 to 200"),
        (" \n", ["search"], "a name of 1 to 200"),
        ("n" * 201, ["search"], "a name of 1 to 200"),
        ("till", [], "need scopes of search, events, write, admin, got none"),
        ("till", ["search", "root"], "got 'root'"),
    ],
)
def test_a_key_that_cannot_be_is_refused(engine: Engine, name: str, scopes: list[str], told: str) -> None:
    table = KeyTable(engine)
    with pytest.raises(InputError, match=told):
        table.create(name, scopes)
    assert table.list() == []


@pytest.mark.parametrize("held", SCOPES)
@pytest.mark.parametrize("asked", SCOPES)
def test_a_scope_opens_itself_and_admin_opens_all(held: str, asked: str) -> None:
    assert Key(ID, "till", (held,), 1.0, None).opens(asked) == (held in (asked, "admin"))


@given(text=st.one_of(st.text(), st.from_regex(r"si_0123456789ab_[A-Za-z0-9_-]{43}", fullmatch=True)))
def test_no_other_text_is_the_key(text: str) -> None:
    assert RING.check(text) == (KEY if text == f"si_{ID}_{SECRET}" else None)


@given(at=st.integers(0, 58), other=st.characters())
def test_a_key_with_one_other_character_is_none(at: int, other: str) -> None:
    text = f"si_{ID}_{SECRET}"
    changed = text[:at] + other + text[at + 1 :]
    assert (RING.check(changed) is None) == (changed != text)
    assert RING.check(text) is KEY
