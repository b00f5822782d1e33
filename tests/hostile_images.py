"""Corrupt and hostile files, drawn from a seed: what people, broken programs and attackers send as a picture.

Every file that carries metadata carries `SECRET` in it, so that a test can look for it in whatever is kept.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

SECRET = b"SECRET-52N13E-4711"
WIDTH, HEIGHT = 160, 112  # of the whole pictures
FORMATS = ("jpeg", "progressive.jpeg", "png", "palette.png", "webp", "lossless.webp", "avif", "gif", "bmp", "tiff")
TRUNCATIONS = (0.02, 0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9)
FLIPS = 14  # damaged copies of each format


@dataclass(frozen=True, slots=True)
class HostileFile:
    """A file and what intake must do with it."""

    name: str
    data: bytes
    expect: Literal["refused", "taken", "either"]


def hostile_files(seed: int) -> Iterator[HostileFile]:
    """Yield more than 300 files; the same seed gives the same files."""
    rng = np.random.default_rng(seed)
    for form in FORMATS:
        yield HostileFile(f"whole.{form}", whole(form), "taken")
        yield from _cut_short(form)
        yield from _damaged(form, rng)
    yield from _other_kinds(rng)
    yield from _sizes()
    yield from _metadata()
    yield from _rare_but_right()
    yield from _jpegs()
    yield from _pngs()
    yield from _gifs()
    yield from _webps()
    yield from _tiffs()
    yield from _bmps()
    yield from _avifs()


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Return a picture whose four quarters differ, with some texture."""
    down, across = np.mgrid[0:height, 0:width]
    red = 255 * across // max(1, width - 1)
    green = 255 * down // max(1, height - 1)
    blue = 128 + 100 * np.sin(across / 7) * np.cos(down / 5)
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))


@lru_cache
def whole(form: str) -> bytes:
    """Return the undamaged picture in one of `FORMATS`."""
    if form == "progressive.jpeg":
        return save(picture(), "JPEG", progressive=True)
    if form == "palette.png":
        return save(picture().quantize(64), "PNG")
    if form == "lossless.webp":
        return save(picture(), "WEBP", lossless=True)
    if form == "tiff":
        return save(picture(), "TIFF", compression="tiff_lzw")
    return save(picture(), form.upper())


def save(image: Image.Image, form: str, **options: object) -> bytes:
    """Return the bytes of an image in one of Pillow's formats."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, pixels: bytes, *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """Return a PNG with any header, any compressed pixel data, and any chunks between them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    )


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def zeros(count: int) -> bytes:
    """Return `count` zeros, deflated: about a two-hundredth of their size."""
    deflate = zlib.compressobj(1)
    block = bytes(1 << 20)
    parts = [deflate.compress(block) for _ in range(count >> 20)]
    return b"".join([*parts, deflate.compress(bytes(count & 0xFFFFF)), deflate.flush()])


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """Return a JPEG segment with its length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def tiff(tags: list[tuple[int, int, int, int]], *, next_ifd: int = 0, after: bytes = b"") -> bytes:
    """Return a little-endian TIFF of one directory; a tag is (number, type, count, value or offset)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags) & 0xFFFF) + entries + struct.pack("<I", next_ifd) + after


def exif(orientation: int = 1) -> bytes:
    """Return an EXIF block with GPS position, camera owner, and the secret."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010E] = SECRET.decode()  # description
    block[0xA430] = SECRET.decode()  # owner
    position = block.get_ifd(0x8825)
    position[1], position[2] = "N", (52.0, 31.0, 12.0)
    position[3], position[4] = "E", (13.0, 24.0, 36.0)
    position[29] = SECRET.decode()
    return block.tobytes()


def _cut_short(form: str) -> Iterator[HostileFile]:
    data = whole(form)
    for share in TRUNCATIONS:
        yield HostileFile(f"cut-at-{share}.{form}", data[: int(len(data) * share)], "refused")


def _damaged(form: str, rng: np.random.Generator) -> Iterator[HostileFile]:
    data = whole(form)
    for copy in range(FLIPS):
        damaged = bytearray(data)
        span = len(data) if copy % 2 else min(len(data), 200)  # every second time the header only
        for at in rng.integers(0, span, size=1 + copy):
            damaged[at] = rng.integers(0, 256)
        yield HostileFile(f"flipped-{copy}.{form}", bytes(damaged), "either")
    yield HostileFile(f"hole.{form}", data[: len(data) // 3] + bytes(64) + data[len(data) // 3 + 64 :], "either")
    yield HostileFile(f"twice.{form}", data + data, "either")


def _other_kinds(rng: np.random.Generator) -> Iterator[HostileFile]:
    others = {
        "empty.jpg": b"",
        "one-byte.jpg": b"\xff",
        "page.jpg": b"<!DOCTYPE html><html><body>404 not found</body></html>",
        "page-with-space.jpg": b"\n\n  <html><script>alert(1)</script></html>",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "entities.svg": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
        "paper.jpg": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "archive.jpg": b"PK\x03\x04" + bytes(200),
        "program.jpg": b"MZ\x90\x00" + bytes(500),
        "program-of-unix.jpg": b"\x7fELF\x02\x01\x01" + bytes(500),
        "script.jpg": b"#!/bin/sh\nrm -rf /\n",
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(%pipe%id) (r) file\n",
        "json.jpg": b'{"error": "expired"}',
        "text.jpg": b"just a line of text, nothing to see",
        "compressed.jpg": b"\x1f\x8b\x08" + bytes(100),
        "film.jpg": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(200),
        "song.jpg": b"ID3\x04" + bytes(200),
        "icon.ico": save(picture(64, 64), "ICO"),
        "portable.ppm": save(picture(), "PPM"),
        "targa.tga": save(picture(), "TGA"),
        "silicon.sgi": save(picture(), "SGI"),
        "pixels.pcx": save(picture(), "PCX"),
        "photoshop.psd": b"8BPS\x00\x01" + bytes(300),
        "jpeg-2000.jp2": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(100),
        "pickle.jpg": b"\x80\x04\x95" + bytes(100),
        "noise.jpg": rng.bytes(5_000),
        "zeros.jpg": bytes(1_000_000),
        "riff-that-is-a-song.webp": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100),
        "heic-without-picture.heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64),
    }
    for name, data in others.items():
        yield HostileFile(name, data, "refused")
    for form in FORMATS:
        yield HostileFile(f"first-bytes-only.{form}", whole(form)[:12], "refused")
        yield HostileFile(f"first-bytes-and-noise.{form}", whole(form)[:12] + rng.bytes(4_000), "refused")
        yield HostileFile(f"first-bytes-and-zeros.{form}", whole(form)[:12] + bytes(4_000), "refused")


def _sizes() -> Iterator[HostileFile]:
    for form in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"):
        yield HostileFile(f"one-pixel.{form.lower()}", save(picture(1, 1), form), "refused")
        yield HostileFile(f"31-pixels.{form.lower()}", save(picture(200, 31), form), "refused")
        yield HostileFile(f"32-pixels.{form.lower()}", save(picture(32, 32), form), "taken")
    yield HostileFile("thread.png", save(Image.new("L", (1, 60_000)), "PNG"), "refused")
    yield HostileFile("thread-across.jpeg", save(Image.new("L", (60_000, 1)), "JPEG"), "refused")
    yield HostileFile("ribbon.png", save(Image.new("L", (32, 60_000)), "PNG"), "taken")


def _metadata() -> Iterator[HostileFile]:
    base = picture()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><photoshop:City>' + SECRET + b"</photoshop:City></x:xmpmeta>"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    marked = profile.replace("sRGB built-in".encode("utf-16-be"), SECRET[:13].decode().encode("utf-16-be")) + SECRET
    for form in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        name = form.lower()
        yield HostileFile(f"position.{name}", save(base, form, exif=exif()), "taken")
        yield HostileFile(f"profile.{name}", save(base, form, icc_profile=marked), "taken")
        yield HostileFile(f"profile-of-noise.{name}", save(base, form, icc_profile=SECRET * 40), "taken")
        for orientation in (0, 3, 6, 9, 65_535):
            turned = save(base, form, exif=exif(orientation))
            yield HostileFile(f"orientation-{orientation}.{name}", turned, "taken")
    for form in ("JPEG", "PNG", "WEBP"):
        broken = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + SECRET
        yield HostileFile(f"broken-exif.{form.lower()}", save(base, form, exif=broken), "taken")
    for form in ("JPEG", "WEBP", "AVIF"):
        yield HostileFile(f"xmp.{form.lower()}", save(base, form, xmp=xmp), "taken")
    yield HostileFile("comment.jpeg", save(base, "JPEG", comment=SECRET), "taken")
    yield HostileFile("comment.gif", save(base, "GIF", comment=SECRET), "taken")
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", SECRET.decode())
    text.add_text("Comment", SECRET.decode(), zip=True)
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    yield HostileFile("texts.png", save(base, "PNG", pnginfo=text), "taken")
    press = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(SECRET)) + SECRET
    data = whole("jpeg")
    yield HostileFile("press.jpeg", data[:2] + jpeg_segment(0xED, press) + data[2:], "taken")
    yield HostileFile("unknown-segment.jpeg", data[:2] + jpeg_segment(0xEB, SECRET * 3_000) + data[2:], "taken")
    yield HostileFile("archive-behind.jpeg", data + b"PK\x03\x04" + SECRET, "taken")
    yield HostileFile("script-behind.gif", whole("gif") + b"<?php echo '" + SECRET + b"'; ?>", "taken")
    yield HostileFile("page-behind.png", whole("png") + b"<html><script>'" + SECRET + b"'</script>", "taken")
    yield HostileFile("picture-behind.bmp", whole("bmp") + save(base, "JPEG", exif=exif()), "taken")
    script = b"GIF89a" + b"=1;alert('" + SECRET + b"')//"
    yield HostileFile("script-as-header.gif", script, "refused")


def _rare_but_right() -> Iterator[HostileFile]:
    base = picture()
    deep = np.linspace(0, 65_535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    clear = base.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(base.size))
    frames = [base, base.transpose(Image.Transpose.ROTATE_180)] * 3
    yield HostileFile("ink.jpeg", save(base.convert("CMYK"), "JPEG"), "taken")
    yield HostileFile("ink.tiff", save(base.convert("CMYK"), "TIFF"), "taken")
    yield HostileFile("grey.jpeg", save(base.convert("L"), "JPEG"), "taken")
    yield HostileFile("deep-grey.png", save(Image.fromarray(deep), "PNG"), "taken")
    yield HostileFile("deep-grey.tiff", save(Image.fromarray(deep), "TIFF"), "taken")
    yield HostileFile("one-bit.png", save(base.convert("1"), "PNG"), "taken")
    yield HostileFile("one-bit.tiff", save(base.convert("1"), "TIFF", compression="group4"), "taken")
    yield HostileFile("reals.tiff", save(Image.fromarray(deep.astype(np.float32)), "TIFF"), "refused")
    yield HostileFile("uncompressed.tiff", save(base, "TIFF"), "taken")
    yield HostileFile("jpeg-inside.tiff", save(base, "TIFF", compression="jpeg"), "taken")
    for form in ("PNG", "WEBP", "AVIF", "TIFF"):
        yield HostileFile(f"clear.{form.lower()}", save(clear, form), "taken")
    for form in ("PNG", "WEBP", "AVIF", "GIF", "TIFF"):
        moving = save(frames[0], form, save_all=True, append_images=frames[1:])
        yield HostileFile(f"moving.{form.lower()}", moving, "taken")
    yield HostileFile("several.jpeg", save(frames[0], "MPO", save_all=True, append_images=frames[1:]), "taken")
    yield HostileFile("no-end-marker.jpeg", whole("jpeg")[:-2], "either")


def _jpegs() -> Iterator[HostileFile]:
    data, progressive = whole("jpeg"), whole("progressive.jpeg")
    scan = progressive.index(b"\xff\xda")
    second = progressive.index(b"\xff\xda", scan + 2)
    second = progressive.rindex(b"\xff\xc4", 0, second) if b"\xff\xc4" in progressive[scan:second] else second
    head, first_scan, rest = progressive[:scan], progressive[scan:second], progressive[second:]
    yield HostileFile("1000-scans.jpeg", head + first_scan * 1_000 + rest, "refused")
    yield HostileFile("101-empty-scans.jpeg", head + progressive[scan : scan + 14] * 101 + rest, "refused")
    yield HostileFile("200000-segments.jpeg", data[:2] + jpeg_segment(0xE9, b"") * 200_000 + data[2:], "refused")
    yield HostileFile("fill-bytes.jpeg", data[:2] + b"\xff" * 15_000_000 + data[2:], "either")
    yield HostileFile("start-only.jpeg", b"\xff\xd8\xff", "refused")
    yield HostileFile("start-and-end.jpeg", b"\xff\xd8\xff\xd9", "refused")
    yield HostileFile("starts-only.jpeg", b"\xff\xd8" * 500_000, "refused")
    frame = next(at for at in range(len(data)) if data[at : at + 2] == b"\xff\xc0")

    def with_size(height: int, width: int, source: bytes = data, at: int = frame) -> bytes:
        return source[: at + 5] + struct.pack(">HH", height, width) + source[at + 9 :]

    yield HostileFile("65500-square.jpeg", with_size(65_500, 65_500), "refused")
    yield HostileFile("7000-square.jpeg", with_size(7_000, 7_000), "refused")
    yield HostileFile("no-height.jpeg", with_size(0, WIDTH), "refused")
    yield HostileFile("no-width.jpeg", with_size(HEIGHT, 0), "refused")
    yield HostileFile("second-frame.jpeg", data[:frame] + data[frame:][:19] + data[frame:], "either")
    yield HostileFile("lossless-frame.jpeg", data[: frame + 1] + b"\xc3" + data[frame + 2 :], "refused")
    yield HostileFile("arithmetic-frame.jpeg", data[: frame + 1] + b"\xc9" + data[frame + 2 :], "either")
    yield HostileFile("twelve-bits.jpeg", data[: frame + 4] + b"\x0c" + data[frame + 5 :], "refused")
    yield HostileFile("200-components.jpeg", data[: frame + 9] + b"\xc8" + data[frame + 10 :], "refused")
    table = data.index(b"\xff\xc4")
    yield HostileFile("no-codes.jpeg", data[:table] + data[data.index(b"\xff\xda") :], "either")
    yield HostileFile("codes-of-noise.jpeg", data[: table + 5] + b"\xff" * 16 + data[table + 21 :], "refused")
    huge = save(Image.new("RGB", (7_000, 7_000), "teal"), "JPEG", progressive=True)
    start = huge.index(b"\xff\xda")
    stop = huge.index(b"\xff\xc4", start)
    slow = huge[:start] + huge[start:stop] * 90 + huge[stop:]
    yield HostileFile("90-scans-of-49-million.jpeg", slow[:19_000_000], "either")


def _pngs() -> Iterator[HostileFile]:
    small = zlib.compress(bytes((3 * 64 + 1) * 64))
    yield HostileFile("30000-square.png", png(30_000, 30_000, zeros(30_000 * 3_751), depth=1, colour=0), "refused")
    yield HostileFile("49-million.png", png(7_000, 7_000, zeros(7_000 * 21_001)), "either")
    yield HostileFile("49-million-deep.png", png(7_000, 7_000, zeros(7_000 * 56_001), depth=16, colour=6), "either")
    yield HostileFile("promises-49-million.png", png(7_000, 7_000, small), "refused")
    yield HostileFile("promises-65535-square.png", png(65_535, 65_535, small), "refused")
    yield HostileFile("promises-2147483647.png", png(2**31 - 1, 2**31 - 1, small), "refused")
    yield HostileFile("promises-none.png", png(0, 0, small), "refused")
    yield HostileFile("depth-3.png", png(64, 64, small, depth=3), "refused")
    yield HostileFile("pixels-behind-the-last.png", png(64, 64, zeros(300_000_000)), "either")
    yield HostileFile("pixels-not-deflated.png", png(64, 64, bytes(20_000)), "refused")
    bomb = zeros(60_000_000)
    yield HostileFile("text-bomb.png", png(64, 64, small, extra=png_chunk(b"zTXt", b"a\0\0" + bomb)), "either")
    international = png_chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)
    yield HostileFile("itxt-bomb.png", png(64, 64, small, extra=international), "either")
    yield HostileFile("profile-bomb.png", png(64, 64, small, extra=png_chunk(b"iCCP", b"a\0\0" + bomb)), "either")
    texts = b"".join(png_chunk(b"tEXt", b"k%d\0" % n + SECRET) for n in range(10_000))
    yield HostileFile("10000-texts.png", png(64, 64, small, extra=texts), "taken")
    yield HostileFile("a-million-chunks.png", png(64, 64, small, extra=png_chunk(b"teSt", b"") * 1_000_000), "either")
    length = png(64, 64, small, extra=b"\x7f\xff\xff\xfftEXt")
    yield HostileFile("chunk-of-2-gigabytes.png", length, "refused")
    yield HostileFile("wrong-checksum.png", whole("png")[:29] + bytes(4) + whole("png")[33:], "refused")
    yield HostileFile("no-palette.png", png(64, 64, zlib.compress(bytes(65 * 64)), colour=3), "either")
    animation = png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield HostileFile("2147483647-frames.png", png(64, 64, small, extra=animation), "either")


def _gifs() -> Iterator[HostileFile]:
    data = whole("gif")
    yield HostileFile("65535-square.gif", data[:6] + b"\xff\xff\xff\xff" + data[10:], "refused")
    yield HostileFile("no-frame.gif", b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0, 0, 0) + b";", "refused")
    frame = data.index(b",", 13 + 768)
    large = data[: frame + 5] + b"\xff\xff\xff\xff" + data[frame + 9 :]
    yield HostileFile("frame-larger-than-screen.gif", large, "refused")
    yield HostileFile("code-size-0.gif", data[: frame + 10] + b"\0" + data[frame + 11 :], "either")
    yield HostileFile("code-size-200.gif", data[: frame + 10] + b"\xc8" + data[frame + 11 :], "refused")
    empty_frame = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    yield HostileFile("100000-frames.gif", data[:-1] + empty_frame * 100_000 + b";", "taken")
    remarks = b"!\xfe" + (b"\xff" + bytes(255)) * 40_000 + b"\0"
    yield HostileFile("endless-comment.gif", data[: 13 + 768] + remarks + data[13 + 768 :], "either")


def _webps() -> Iterator[HostileFile]:
    def riff(chunks: bytes) -> bytes:
        return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks

    def extended(side: int, flags: int) -> bytes:
        return b"VP8X" + struct.pack("<IB3x", 10, flags) + (side - 1).to_bytes(3, "little") * 2

    lossy, lossless = whole("webp"), whole("lossless.webp")
    yield HostileFile("16384-square.webp", riff(extended(16_384, 2)), "refused")
    yield HostileFile("16777216-square.webp", riff(extended(16_777_216, 0) + lossy[12:]), "refused")
    yield HostileFile("canvas-without-picture.webp", riff(extended(500, 0)), "refused")
    yield HostileFile("canvas-of-another-size.webp", riff(extended(500, 0) + lossy[12:]), "either")
    yield HostileFile("promises-16383.webp", lossy[:26] + b"\xff\x3f\xff\x3f" + lossy[30:], "refused")
    yield HostileFile("promises-7000.webp", lossy[:26] + struct.pack("<HH", 7_000, 7_000) + lossy[30:], "refused")
    yield HostileFile("lossless-promises-16384.webp", lossless[:21] + b"\xff\xff\xff\x0f" + lossless[25:], "refused")
    yield HostileFile("wrong-length.webp", b"RIFF\xff\xff\xff\xff" + lossy[8:], "either")
    yield HostileFile("unknown-chunk.webp", riff(b"ABCD\x04\0\0\0abcd" + lossy[12:]), "refused")
    frame = b"ANMF" + struct.pack("<I", 16 + len(lossy) - 12) + bytes(6)
    frame += (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little") + bytes(4) + lossy[12:]
    canvas = b"VP8X" + struct.pack("<IB3x", 10, 2) + frame[14:20] + b"ANIM\x06\0\0\0" + bytes(6)
    yield HostileFile("2000-frames.webp", riff(canvas + frame * 2_000), "taken")


def _tiffs() -> Iterator[HostileFile]:
    def tags(**changed: int) -> list[tuple[int, int, int, int]]:
        values = {
            "width": 64, "height": 64, "bits": 8, "compression": 1, "colours": 1, "offset": 200, "samples": 1,
            "rows": 64, "bytes": 4_096,
        } | changed  # fmt: skip
        numbers = (256, 257, 258, 259, 262, 273, 277, 278, 279)
        return [(number, 4, 1, value & 0xFFFFFFFF) for number, value in zip(numbers, values.values(), strict=True)]

    pixels = bytes(86) + bytes(range(256)) * 16
    yield HostileFile("by-hand.tiff", tiff(tags(), after=pixels), "taken")
    lies = {
        "4294967295-square": tags(width=-1, height=-1), "30000-square": tags(width=30_000, height=30_000),
        "7000-square": tags(width=7_000, height=7_000, rows=7_000, bytes=49_000_000), "no-width": tags(width=0),
        "pixels-behind-the-end": tags(offset=4_000_000_000), "64-bits": tags(bits=64), "0-bits": tags(bits=0),
        "250-samples": tags(samples=250), "60000-samples": tags(samples=60_000),
        "unknown-compression": tags(compression=7777),
        "broken-deflate": tags(compression=8), "broken-lzw": tags(compression=5), "broken-fax": tags(compression=4),
        "broken-jpeg": tags(compression=7), "old-jpeg": tags(compression=6), "no-tags": [],
    }  # fmt: skip
    for name, lie in lies.items():
        yield HostileFile(f"{name}.tiff", tiff(lie, after=pixels), "refused")
    yield HostileFile("no-rows.tiff", tiff(tags(rows=0), after=pixels), "either")
    yield HostileFile("no-bytes.tiff", tiff(tags(bytes=0), after=pixels), "either")
    yield HostileFile("4294967295-bytes.tiff", tiff(tags(bytes=-1), after=pixels), "either")
    yield HostileFile("endless-directories.tiff", tiff(tags(), next_ifd=8, after=pixels), "either")
    itself = [*tags(), (34_665, 4, 1, 8), (34_853, 4, 1, 8)]
    yield HostileFile("exif-is-itself.tiff", tiff(itself, after=pixels), "either")
    yield HostileFile("60000-tags.tiff", tiff([(n, 4, 1, 64) for n in range(60_000)]), "refused")
    strips = [*tags()[:5], (273, 4, 2**32 - 1, 200), *tags()[6:]]
    yield HostileFile("4294967295-strips.tiff", tiff(strips, after=pixels), "refused")
    bomb = zeros(300_000_000)
    inflated = tags(compression=8, bytes=len(bomb), offset=200)
    yield HostileFile("deflate-bomb.tiff", tiff(inflated, after=bytes(86) + bomb), "either")
    yield HostileFile("directory-behind-the-end.tiff", b"MM\0*\xff\xff\xff\xf0" + bytes(100), "refused")
    yield HostileFile("big.tiff", b"II+\0\x08\0\0\0" + b"\xff" * 100, "refused")


def _bmps() -> Iterator[HostileFile]:
    def bmp(width: int, height: int, bits: int, compression: int, body: bytes, *, colours: int = 0) -> bytes:
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, colours, 0)
        palette = bytes(1024) if bits == 8 else b""
        return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + header + palette + body

    lies = {
        "2147483647-square": bmp(2**31 - 1, 2**31 - 1, 24, 0, b""), "least-height": bmp(64, -(2**31), 24, 0, b""),
        "negative-width": bmp(-64, 64, 24, 0, bytes(20_000)), "30000-square": bmp(30_000, 30_000, 1, 0, b""),
        "7000-square": bmp(7_000, 7_000, 24, 0, bytes(1_000)), "no-bits": bmp(64, 64, 0, 0, bytes(20_000)),
        "99-bits": bmp(64, 64, 99, 0, bytes(20_000)), "unknown-compression": bmp(64, 64, 24, 77, bytes(20_000)),
        "masks-of-nothing": bmp(64, 64, 32, 3, b""), "header-of-3-bytes": b"BM" + bytes(12) + b"\x03\0\0\0" + bytes(99),
    }  # fmt: skip
    for name, data in lies.items():
        yield HostileFile(f"{name}.bmp", data, "refused")
    yield HostileFile("top-down.bmp", bmp(64, -64, 24, 0, bytes(64 * 64 * 3)), "taken")
    yield HostileFile("runs-of-49-million.bmp", bmp(7_000, 7_000, 8, 1, b"\xff\x00" * 200_000), "either")
    yield HostileFile("runs-of-nothing.bmp", bmp(7_000, 7_000, 8, 1, b"\x00\x02\x00\x00" * 4_500_000), "either")
    yield HostileFile("runs-that-jump.bmp", bmp(7_000, 7_000, 8, 1, b"\x00\x02\xff\xff" * 100_000), "either")
    yield HostileFile("palette-of-millions.bmp", bmp(64, 64, 8, 0, bytes(4_096), colours=2**31), "either")


def _avifs() -> Iterator[HostileFile]:
    data = whole("avif")
    size = data.index(b"ispe") + 8

    def with_size(width: int, height: int) -> bytes:
        return data[:size] + struct.pack(">II", width, height) + data[size + 8 :]

    yield HostileFile("65535-square.avif", with_size(65_535, 65_535), "refused")
    yield HostileFile("4294967295-square.avif", with_size(2**32 - 1, 2**32 - 1), "refused")
    yield HostileFile("7000-square.avif", with_size(7_000, 7_000), "either")
    yield HostileFile("no-size.avif", with_size(0, 0), "refused")
    end = int.from_bytes(data[:4])
    yield HostileFile("brand-only.avif", data[:end], "refused")
    yield HostileFile("box-without-end.avif", data[:end] + b"\0\0\0\0meta" + data[end + 8 :], "either")
    yield HostileFile("box-of-2-gigabytes.avif", data[:end] + b"\x7f\xff\xff\xffmeta" + data[end + 8 :], "refused")
    nested = b""
    for _ in range(5_000):
        nested = struct.pack(">I", len(nested) + 8) + b"meta" + nested
    yield HostileFile("nested-boxes.avif", data[:end] + nested, "refused")
    yield HostileFile("free-boxes.avif", data[:end] + b"\0\0\0\x08free" * 1_000_000 + data[end:], "either")
