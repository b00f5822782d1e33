"""The program that decodes strangers' pictures, one process apart from everything that matters.

`image_intake` starts it, sends files and reads answers. It arms its own memory and CPU limits, knows no secrets, writes
no files, and ends when its input does. `prepare` is all that it does to a picture.

Frames on both pipes: kind (1 byte), length (4 bytes, big-endian), payload. In: `F` a file. Out: `A` alive, once after
the start; `P` a photo; `I` and `L` the text of an ImageError and a TooLargeError; `M` the memory limit was met.
"""

import contextlib
import io
import json
import math
import re
import signal
import struct
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from sameitem.core.errors import ImageError, TooLargeError

THUMBNAIL_SIDE_PX = 384
MAX_JPEG_SEGMENTS = 5_000  # cameras write tens; each costs the parser time
ACCEPTED = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, and HEIC where the extra `heic` is installed"

FRAME = struct.Struct(">cI")
PHOTO = struct.Struct(">7I")  # stored width, height; original width, height; thumbnail width, height; JPEG bytes

_ORIENTATION_TAG = 0x0112
_TURNED_SIDEWAYS = (5, 6, 7, 8)
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_OTHER_FILES = (
    (re.compile(rb"\s*<(!doctype\s+html|html|head|body)", re.IGNORECASE), "a web page"),
    (re.compile(rb"\s*<(\?xml|svg)", re.IGNORECASE), "SVG or XML text"),
    (re.compile(rb"\s*[\[{]"), "JSON text"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive or office document"),
    (re.compile(rb"MZ|\x7fELF"), "a program"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video or another ISO media file"),
)
# Where a decoder could read a marker: not a stuffed zero, a fill byte, a restart marker or TEM.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)
# What broken EXIF and ICC blocks make Pillow raise; a picture is taken without them.
_BROKEN_METADATA = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a photo may be and may cost; the same names and units as `IntakeSettings`."""

    max_pixels: int
    min_side_px: int
    max_jpeg_scans: int
    stored_side_px: int
    stored_quality: int
    deadline_s: float
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture made safe: upright, sRGB, without metadata. Sizes are (width, height)."""

    encoded: bytes  # JPEG
    size: tuple[int, int]
    original_size: tuple[int, int]  # of the upright original
    thumbnail: bytes  # RGB rows
    thumbnail_size: tuple[int, int]


def prepare(data: bytes, limits: Limits) -> Prepared:
    """Return the stored copy and the thumbnail of a picture file of an accepted format.

    Formats are told by their first bytes, sizes and scans are checked before any pixel is decoded, and only the first
    frame is read. Transparency is laid over white.

    Raises:
        ImageError: not an accepted format, too small a side, samples that are not 8 or 16 bits.
        TooLargeError: more pixels or JPEG scans than accepted.
        Exception: whatever a decoder makes of a damaged file; `answer` words it.
    """
    form = image_format(data)
    if form == "JPEG":
        _check_jpeg_segments(data, limits)
    elif form == "WEBP":
        _check_size(_webp_size(data), limits)  # the decoder sets memory aside before it tells the size
    with _open(data, form) as image:
        original = image.size
        _check_size(original, limits)
        if form == "JPEG":
            _check_jpeg_has_data_for(original, data, image)
        image.draft(None, _fit(original, limits.stored_side_px))
        image.load()
        if form != "JPEG":  # a GIF frame may be larger than its screen, TIFF turns itself; draft() scaled the JPEG
            original = image.size
            _check_size(original, limits)
        orientation = _orientation(image)
        picture = _eight_bits(image, form)
        profile = image.info.get("icc_profile")
    picture = picture.resize(_fit(picture.size, limits.stored_side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    picture = _upright(_over_white(picture, profile), orientation)
    thumbnail = picture.resize(_fit(picture.size, THUMBNAIL_SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=1.0)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=limits.stored_quality, subsampling="4:2:0")
    return Prepared(
        encoded=encoded.getvalue(),
        size=picture.size,
        original_size=original[::-1] if orientation in _TURNED_SIDEWAYS else original,
        thumbnail=thumbnail.tobytes(),
        thumbnail_size=thumbnail.size,
    )


def image_format(data: bytes) -> str:
    """Return Pillow's name of the format that the first bytes announce.

    Raises:
        ImageError: no accepted format; says what the bytes look like instead.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith(b"BM"):
        return "BMP"
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4]), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    if not data:
        raise ImageError(f"the file is empty; send one of {ACCEPTED}")
    what = next((name for pattern, name in _OTHER_FILES if pattern.match(data)), "of no kind we know")
    raise ImageError(f"the file is {what} (first bytes: {data[:8].hex(' ')}); send one of {ACCEPTED}")


def _check_jpeg_segments(data: bytes, limits: Limits) -> None:
    """Refuse a JPEG with more scans or segments than accepted, in time linear in its bytes."""
    position, scans, segments = 2, 0, 0
    while (marker := _JPEG_MARKER.search(data, position)) and marker[1] != b"\xd9":
        segments += 1
        scans += marker[1] == b"\xda"
        if scans > limits.max_jpeg_scans:
            raise TooLargeError(
                f"the JPEG has more than {limits.max_jpeg_scans:,} scans, which are accepted at most; save it as "
                "a baseline JPEG"
            )
        if segments > MAX_JPEG_SEGMENTS:
            raise TooLargeError(
                f"the JPEG has more than {MAX_JPEG_SEGMENTS:,} segments, which are accepted at most; save it again"
            )
        position = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2]))


def _check_jpeg_has_data_for(size: tuple[int, int], data: bytes, image: Image.Image) -> None:
    """Refuse a JPEG with fewer bits than its blocks need at least; the decoder would fill the rest with grey.

    A block of 8 x 8 pixels takes one bit for its mean and, unless runs of a progressive scan stand for it, one for its
    end.
    """
    blocks = math.ceil(size[0] / 8) * math.ceil(size[1] / 8)
    needed = blocks * (1 if image.info.get("progressive") else 2) // 8
    if len(data) < needed:
        raise ImageError(
            f"the JPEG file is cut short: {size[0]} x {size[1]} pixels need at least {needed:,} bytes, it has "
            f"{len(data):,}; send the whole file"
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a WebP header of any of its three kinds."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return (
            int.from_bytes(data[26:28], "little") & 0x3FFF,
            int.from_bytes(data[28:30], "little") & 0x3FFF,
        )
    raise ImageError(f"the WebP file begins with a chunk {kind!r} instead of VP8, VP8L or VP8X; save it again")


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise TooLargeError(
            f"the photo has {width} x {height} = {width * height:,} pixels, accepted are at most "
            f"{limits.max_pixels:,}; send a smaller copy"
        )
    if min(size) < limits.min_side_px:
        raise ImageError(
            f"the photo has {width} x {height} pixels, its shortest side must have at least {limits.min_side_px}; "
            "send a larger picture"
        )


def _open(data: bytes, form: str) -> Image.Image:
    """Open a file with the reader of this one format; unlike Image.open, no other reader ever sees it."""
    if form == "HEIF":
        try:
            heif = import_module("pillow_heif")
        except ImportError as error:
            raise ImageError(
                "the file is HEIC, for which this installation lacks the decoder: send a JPEG, or install "
                "`sameitem[heic]`"
            ) from error
        heif.register_heif_opener(thumbnails=False)
        return Image.open(io.BytesIO(data), formats=[form])
    return _READERS[form](io.BytesIO(data))


def _orientation(image: Image.Image) -> int:
    """Return how the EXIF says that the picture is to be turned: 1 to 8, 1 when it does not say."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _BROKEN_METADATA:
        return 1
    return value if value in range(1, 9) else 1


def _eight_bits(image: Image.Image, form: str) -> Image.Image:
    """Return the picture as grey, RGB, RGBA or CMYK of 8 bits."""
    if image.mode in ("L", "RGB", "RGBA", "CMYK") and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "RGBX", "YCbCr"):
        return image.convert("RGB")
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value / 256).convert("L")
    raise ImageError(f"a {form} of mode {image.mode} is not accepted; save the picture as RGB of 8 or 16 bits")


def _over_white(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the picture as sRGB, its transparent parts white, and nothing attached to it."""
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    colours = _srgb(picture.convert("RGB") if alpha else picture, profile)
    if alpha:
        colours = Image.composite(colours, Image.new("RGB", colours.size, "white"), alpha)
    colours.info.clear()  # Pillow would write comments and XMP from here
    return colours


def _srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if not ImageCms.getProfileDescription(source).startswith("sRGB"):
                turned = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if turned is not None:
                    return turned
        except (*_BROKEN_METADATA, ImageCms.PyCMSError):
            pass  # a profile that is broken or belongs to other colours says nothing
    return picture.convert("RGB")


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _fit(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    """Return the size scaled down, never up, so that the longest side is at most `side_px`."""
    scale = min(1.0, side_px / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def answer(data: bytes, limits: Limits) -> tuple[bytes, bytes]:
    """Return the frame that answers a file: kind and payload. Raises nothing."""
    try:
        photo = prepare(data, limits)
    except TooLargeError as error:
        return b"L", str(error).encode()
    except ImageError as error:
        return b"I", str(error).encode()
    except MemoryError:
        return b"M", b""
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return b"L", f"the photo has more than {limits.max_pixels:,} pixels; send a smaller copy".encode()
    except Exception as error:  # the outermost loop: decoders raise nearly anything for a damaged file
        cut = "truncated" in str(error).lower()
        what = "is cut short: it ends before the picture does" if cut else "is damaged or cut short"
        return b"I", f"the {image_format(data)} file {what}; send the whole file".encode()
    sizes = (*photo.size, *photo.original_size, *photo.thumbnail_size)
    return b"P", PHOTO.pack(*sizes, len(photo.encoded)) + photo.encoded + photo.thumbnail


def _arm(limits: Limits) -> Callable[[], None]:
    """Set the limits that the platform has; return what to call before each photo to allow it its share of CPU."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes our input
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which we drop
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    try:
        resource: Any = import_module("resource")
    except ImportError:  # Windows: the parent's deadline remains
        return lambda: None

    def limit(name: str, soft: int) -> None:
        if hasattr(resource, name):
            hard = resource.getrlimit(getattr(resource, name))[1]
            if hard == resource.RLIM_INFINITY or soft <= hard:
                with contextlib.suppress(ValueError, OSError):  # macOS knows limits that it does not let be set
                    resource.setrlimit(getattr(resource, name), (soft, hard))

    def allow_one_photo() -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit("RLIMIT_CPU", math.ceil(used.ru_utime + used.ru_stime + limits.deadline_s) + 1)

    limit("RLIMIT_AS", limits.memory_mb << 20)
    limit("RLIMIT_CORE", 0)
    limit("RLIMIT_FSIZE", 0)
    return allow_one_photo


def serve(source: BinaryIO, target: BinaryIO, limits: Limits) -> None:
    """Answer files from `source` on `target` until `source` ends or an answer says that memory ran out."""
    allow_one_photo = _arm(limits)
    target.write(FRAME.pack(b"A", 0))
    target.flush()
    while len(head := source.read(FRAME.size)) == FRAME.size:
        length = FRAME.unpack(head)[1]
        allow_one_photo()
        data = source.read(length)
        if len(data) < length:
            return
        kind, payload = answer(data, limits)
        target.write(FRAME.pack(kind, len(payload)))
        target.write(payload)
        target.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer, Limits(**json.loads(sys.argv[1])))
