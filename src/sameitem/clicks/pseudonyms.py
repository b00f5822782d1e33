"""What the log keeps in place of user and session ids: keyed hashes, which tell one from another and nobody's name."""

import base64
import hmac

SIMULATED = "simulated"  # ids that begin so are nobody's; their pseudonyms begin so, too
_BYTES = 16


class Pseudonyms:
    """The pseudonyms of one shop: the same id has always the same one, which nobody can find without the secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of_user(self, user_id: str) -> str:
        """Return what is kept of a user id; "" stays "" (nobody knows)."""
        return self._of("user", user_id)

    def of_session(self, session_id: str) -> str:
        """Return what is kept of a session id; "" stays ""."""
        return self._of("session", session_id)

    def _of(self, kind: str, text: str) -> str:
        if not text:
            return ""
        digest = hmac.digest(self._secret, f"{kind} id\0{text}".encode("utf-8", "surrogatepass"), "sha256")[:_BYTES]
        name = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return f"{SIMULATED}-{name}" if text.startswith(SIMULATED) else name
