"""Which searches of the click log are kept from training, so that two models can be compared on them."""

import hashlib

SHARE = 0.1  # of all searches


def is_held_out(search_id: str) -> bool:
    """Return whether a search is only for comparing models: always the same tenth, told by a hash of its id.

    Whoever mines triplets or trains leaves these searches out.
    """
    digest = hashlib.sha256(search_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < SHARE * 2**64
