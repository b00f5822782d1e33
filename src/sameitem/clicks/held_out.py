"""Which searches of the click log are kept from training, so that two models can be compared on them."""

import hashlib

SHARE = 0.1  # of all photos


def is_held_out(name: str) -> bool:
    """Return whether a search is only for comparing models: always the same tenth, told by a hash of its name.

    Whoever mines triplets or trains leaves these searches out. The name is the content hash of the photo, so that all
    searches with one photo (its pages, filters, repeats) are on the same side; the search id where no photo was kept.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < SHARE * 2**64
