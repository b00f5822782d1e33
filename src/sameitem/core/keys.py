"""API keys of a shop: shown once, stored hashed, each with the scopes it opens.

A key reads `si_<id>_<secret>`. The id is public: it names the key in lists and messages. The secret is 256 random bits,
so that its SHA-256 is as good to keep as a slow hash: those make up for secrets that people think of, and nobody can go
through 2^256 of them. What is fast can be done for every request.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Double, Engine, Row, Table, insert, select, update

from sameitem.core.database import TEXT, metadata, read, storable, write
from sameitem.core.errors import InputError, NotFoundError

SCOPES = ("search", "events", "write", "admin")  # admin holds all others
MAX_NAME = 200  # characters
_FORM = re.compile(r"si_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")

keys = Table(
    "keys",
    metadata,
    Column("id", TEXT, primary_key=True),  # public part of the key
    Column("name", TEXT, nullable=False),
    Column("hash", TEXT, nullable=False),  # SHA-256 of the secret part
    Column("scopes", TEXT, nullable=False),  # JSON list
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key; its secret is not. Times are seconds since 1970."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: float
    revoked_at: float | None

    def opens(self, scope: str) -> bool:
        """Return whether the key may do what needs a scope."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that were valid at one moment."""

    _keys: Mapping[str, tuple[Key, str]]  # by id; with the hash of the secret

    def __len__(self) -> int:
        return len(self._keys)

    def check(self, text: str) -> Key | None:
        """Return the key that a text is; None where it is no valid one, whatever is wrong with it."""
        form = _FORM.fullmatch(text)
        if form is None or form[1] not in self._keys:
            return None
        key, stored = self._keys[form[1]]
        return key if hmac.compare_digest(_hash(form[2]), stored) else None


class KeyTable:
    """The keys of a shop."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def create(self, name: str, scopes: Sequence[str]) -> tuple[Key, str]:
        """Make a key; return what is known of it and its text, which cannot be had again.

        Raises:
            InputError: no name or a long one, no scope or one that there is not.
        """
        name = storable(name).strip()
        if not name or len(name) > MAX_NAME:
            raise InputError(
                f"need a name of 1 to {MAX_NAME} characters that says who the key is for, got {name[:50]!r}",
                field="name",
            )
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            got = ", ".join(repr(scope[:50]) for scope in unknown) or "none"
            raise InputError(f"need scopes of {', '.join(SCOPES)}, got {got}", field="scope")
        secret = secrets.token_urlsafe(32)
        key = Key(
            id=secrets.token_hex(6),
            name=name,
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            created_at=self._clock(),
            revoked_at=None,
        )
        row = {"id": key.id, "name": name, "hash": _hash(secret), "scopes": json.dumps(key.scopes)}
        with write(self._engine) as connection:
            connection.execute(insert(keys), {**row, "created_at": key.created_at, "revoked_at": None})
        return key, f"si_{key.id}_{secret}"

    def list(self) -> list[Key]:
        """Return every key that was ever made, the oldest first."""
        with read(self._engine) as connection:
            return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id))]

    def revoke(self, key_id: str) -> Key:
        """End a key for good; one that has ended already stays as it is.

        Raises:
            NotFoundError: there is no such key.
        """
        with write(self._engine) as connection:
            connection.execute(
                update(keys)
                .where(keys.c.id == storable(key_id), keys.c.revoked_at.is_(None))
                .values(revoked_at=self._clock())
            )
            row = connection.execute(select(keys).where(keys.c.id == storable(key_id))).first()
        if row is None:
            raise NotFoundError(f"no key {_shown(key_id)!r}; `sameitem keys list` tells the ids")
        return _key(row)

    def valid(self) -> KeyRing:
        """Return the keys that are valid now, to check many texts with."""
        with read(self._engine) as connection:
            rows = connection.execute(select(keys).where(keys.c.revoked_at.is_(None)))
            return KeyRing({row.id: (_key(row), row.hash) for row in rows})

    def check(self, text: str) -> Key | None:
        """Return the key that a text is; None where it is no valid one, whatever is wrong with it."""
        return self.valid().check(text)


def _key(row: Row[tuple[object, ...]]) -> Key:
    return Key(row.id, row.name, tuple(json.loads(row.scopes)), row.created_at, row.revoked_at)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _shown(key_id: str) -> str:
    """Return what may be repeated of a text that should be an id: a whole key may have been pasted."""
    form = _FORM.fullmatch(key_id.strip())
    return form[1] if form else key_id[:15]  # of a mistyped key, nothing of the secret
