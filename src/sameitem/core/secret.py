"""The secret of a shop: 32 random bytes in a file that its owner alone can read.

It signs search ids and makes the pseudonyms of users, so that nobody outside can do either.
"""

import os
import secrets
from functools import partial
from pathlib import Path

from sameitem.core.durable import sync_folder
from sameitem.core.errors import InputError, UnavailableError

SECRET = "secret.key"  # in the shop's folder
SECRET_BYTES = 32


def read_secret(folder: Path) -> bytes:
    """Return the secret of the shop in a folder, made when it is first asked for; all processes get the same one.

    Raises:
        InputError: the file is damaged.
        UnavailableError: it can be neither read nor made.
    """
    file = folder / SECRET
    try:
        if not file.exists():
            _make(file)
        secret = file.read_bytes()
    except OSError as error:
        raise UnavailableError(
            f"{file} cannot be read or made: {error.strerror}; check that the folder may be written"
        ) from error
    if len(secret) != SECRET_BYTES:
        raise InputError(
            f"{file} is damaged: need {SECRET_BYTES} bytes, got {len(secret)}; restore it from the backup, or remove "
            "it: users then get other pseudonyms, and clicks on lists that were shown before are refused"
        )
    return secret


def _make(file: Path) -> None:
    """Put a whole secret in place, unless another process was faster: a link is made once, a rename would replace."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb", opener=partial(os.open, mode=0o600)) as stream:  # never readable for others
            stream.write(secrets.token_bytes(SECRET_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        os.link(part, file)
    except FileExistsError:
        pass
    finally:
        part.unlink(missing_ok=True)
    sync_folder(file.parent)
