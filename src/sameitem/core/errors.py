"""Every error this project raises on purpose.

SameItemError
├── InputError            the caller must change something              HTTP 422, exit 1
│   ├── ImageError            bytes that are not an image we take           415
│   ├── TooLargeError         more bytes, pixels or rows than accepted      413
│   └── ShapeError            an array of the wrong shape or dtype
├── NotFoundError         a named product, image, index version or model is absent   404, exit 4
├── ConflictError         the state of things forbids it now            409, exit 5
├── AccessError           this caller may not                           403
├── RefusedError          a certificate or gate said no                 409, exit 1
└── UnavailableError      trying again may help                         503, exit 1

A message says what was received, what is accepted, and the next step. `apps` maps the tree to HTTP and exit codes.
"""


class SameItemError(Exception):
    """Base class: catch this to catch everything the project raises on purpose."""


class InputError(SameItemError):
    """The caller sent something unusable; the message says what would be usable."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field  # the parameter, column or setting that is wrong, where there is one


class ImageError(InputError):
    """The bytes are not an image we take."""


class TooLargeError(InputError):
    """More bytes, pixels, scans or rows than the published limit."""


class ShapeError(InputError):
    """An array has the wrong shape or dtype."""


class NotFoundError(SameItemError):
    """A named product, image, index version, model or file does not exist."""


class ConflictError(SameItemError):
    """What was asked does not fit the present state; the message says which."""


class AccessError(SameItemError):
    """This caller may not do this."""


class RefusedError(SameItemError):
    """A certificate or gate said no; nothing was published."""


class UnavailableError(SameItemError):
    """A part that should have answered did not; trying again may help."""
