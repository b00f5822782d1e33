"""Search ids that only this shop can give, and that say when: an event with another id costs no look at the database.

    bytes 0-11   random
    bytes 12-16  seconds since 1970, big-endian
    bytes 17-32  HMAC-SHA256 of the bytes before, cut to 128 bits

written in URL-safe Base64: 44 characters.
"""

import base64
import binascii
import hmac
import re
import secrets

_SHAPE = re.compile(r"[A-Za-z0-9_-]{44}")
_RANDOM, _TIME, _SIGNATURE = 12, 5, 16  # bytes
_PURPOSE = b"search id\0"  # what else the secret signs begins with other words


class SearchIds:
    """Gives and recognises the search ids of one shop."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def give(self, now: float) -> str:
        """Return a new id for a search that is answered now, in seconds since 1970."""
        said = secrets.token_bytes(_RANDOM) + int(now).to_bytes(_TIME)
        return base64.urlsafe_b64encode(said + self._signature(said)).decode()

    def given_at(self, search_id: str) -> int | None:
        """Return the second since 1970 in which this shop gave the id; None: it never did."""
        if not _SHAPE.fullmatch(search_id):
            return None
        try:
            content = base64.urlsafe_b64decode(search_id)
        except binascii.Error:
            return None
        said, signature = content[:-_SIGNATURE], content[-_SIGNATURE:]
        if not hmac.compare_digest(signature, self._signature(said)):
            return None
        return int.from_bytes(said[_RANDOM:])

    def _signature(self, said: bytes) -> bytes:
        return hmac.digest(self._secret, _PURPOSE + said, "sha256")[:_SIGNATURE]
