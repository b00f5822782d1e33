"""The one table that says what an error is to the outside: HTTP status, code, exit status."""

from dataclasses import dataclass

from sameitem.core.errors import (
    AccessError,
    ConflictError,
    ImageError,
    InputError,
    NotFoundError,
    RefusedError,
    SameItemError,
    ShapeError,
    TooLargeError,
    UnavailableError,
)

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_SET_ASIDE, EXIT_NOT_FOUND, EXIT_CONFLICT, EXIT_INTERRUPTED = (
    0,
    1,
    2,
    3,
    4,
    5,
    130,
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error is to callers."""

    status: int
    code: str  # stable, for programs
    title: str
    exit_status: int


_MEANINGS: dict[type[SameItemError], Meaning] = {
    ImageError: Meaning(415, "image_not_accepted", "Not an image we take", EXIT_FAILURE),
    TooLargeError: Meaning(413, "too_large", "Too large", EXIT_FAILURE),
    ShapeError: Meaning(422, "wrong_shape", "Wrong shape", EXIT_FAILURE),
    InputError: Meaning(422, "invalid", "Fields wrong", EXIT_FAILURE),
    NotFoundError: Meaning(404, "not_found", "Not found", EXIT_NOT_FOUND),
    ConflictError: Meaning(409, "conflict", "Conflict", EXIT_CONFLICT),
    AccessError: Meaning(403, "forbidden", "Not allowed", EXIT_FAILURE),
    RefusedError: Meaning(409, "refused", "Refused by a check", EXIT_FAILURE),
    UnavailableError: Meaning(503, "unavailable", "Not available now", EXIT_FAILURE),
}


def meaning(error: SameItemError) -> Meaning:
    """Return what an error is to callers, by its nearest class in the table."""
    return next(_MEANINGS[kind] for kind in type(error).__mro__ if kind in _MEANINGS)
