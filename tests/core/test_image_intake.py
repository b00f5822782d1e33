import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from hostile_images import FORMATS, SECRET, HostileFile, exif, hostile_files, picture, png, save, whole, zeros
from sameitem.core import decode_worker
from sameitem.core.decode_worker import Limits, Prepared, answer, prepare
from sameitem.core.errors import ConflictError, ImageError, SameItemError, TooLargeError, UnavailableError
from sameitem.core.image_intake import ImageIntake
from sameitem.core.records import Photo
from sameitem.core.settings import IntakeSettings

SMALL = Limits(
    max_pixels=1_000_000,
    min_side_px=32,
    max_jpeg_scans=100,
    stored_side_px=1024,
    stored_quality=90,
    deadline_s=3.0,
    memory_mb=900,
)
# What a JPEG of ours may consist of: JFIF header, tables, one baseline frame, one scan. No EXIF, XMP, ICC, comment.
OWN_SEGMENTS = {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at processes through /proc")


@pytest.fixture(scope="module")
def intake() -> Iterator[ImageIntake]:
    with ImageIntake(IntakeSettings(workers=1, max_pixels=1_000_000, deadline_s=20)) as opened:
        yield opened


def pixels(prepared: Prepared) -> np.ndarray:
    width, height = prepared.thumbnail_size
    return np.frombuffer(prepared.thumbnail, np.uint8).reshape(height, width, 3).astype(int)


def segments(jpeg: bytes) -> set[int]:
    found, at = set(), 2
    while jpeg[at + 1] != 0xDA:
        found.add(jpeg[at + 1])
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return found | {0xDA}


def workers_of(process: int) -> list[int]:
    children: list[str] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            children += (task / "children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_same_upright_picture(form: str, orientation: int) -> None:
    upright = picture()
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation -> Pillow's transposition that undoes it
    turned = upright.transpose(Image.Transpose(back[orientation])) if orientation > 1 else upright
    prepared = prepare(save(turned, form, exif=exif(orientation)), SMALL)
    assert prepared.original_size == prepared.size == upright.size
    assert np.abs(pixels(prepared) - np.asarray(upright, int)).mean() < 6


@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_picture_of_every_format_looks_like_itself(form: str) -> None:
    assert np.abs(pixels(prepare(whole(form), SMALL)) - np.asarray(picture(), int)).mean() < 17  # 16 by 64 colours


def test_heic_is_taken_and_turned_upright_where_its_decoder_is_installed() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    turned = picture().transpose(Image.Transpose.ROTATE_90)
    prepared = prepare(save(turned, "HEIF", quality=90, exif=exif(6)), SMALL)
    assert prepared.size == picture().size
    assert np.abs(pixels(prepared) - np.asarray(picture(), int)).mean() < 9


def test_without_its_decoder_heic_is_refused_by_the_name_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"sameitem\[heic\]"):
        prepare(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), SMALL)


@settings(deadline=None, max_examples=120)
@given(form=st.sampled_from(FORMATS), share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused_or_shows_the_whole_picture(form: str, share: float) -> None:
    data = whole(form)
    kind, payload = answer(data[: int(len(data) * share)], SMALL)
    if kind == b"P":
        assert payload == answer(data, SMALL)[1]
    else:
        assert kind == b"I"


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=2_000))
def test_random_bytes_are_refused_with_a_reason(intake: ImageIntake, data: bytes) -> None:
    with pytest.raises(ImageError, match="send"):
        intake.take(data)


@settings(deadline=None, max_examples=150)
@given(
    form=st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_picture_is_taken_or_refused_and_nothing_else(
    intake: ImageIntake, form: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(whole(form))
    for place, value in changes:
        data[int(place * len(data))] = value
    photo = None
    with contextlib.suppress(ImageError, TooLargeError):
        photo = intake.take(bytes(data))
    assert photo is None or segments(photo.encoded) == OWN_SEGMENTS


def test_the_stored_copy_is_scaled_down_and_remembers_the_size_of_the_original(intake: ImageIntake) -> None:
    photo = intake.take(save(picture(1_000, 600), "PNG"))
    assert (photo.width, photo.height, photo.original_width, photo.original_height) == (1_000, 600, 1_000, 600)
    with ImageIntake(IntakeSettings(workers=1, stored_side_px=256)) as smaller:
        photo = smaller.take(save(picture(1_000, 600), "JPEG", exif=exif(6)))
    assert (photo.width, photo.height, photo.original_width, photo.original_height) == (154, 256, 600, 1_000)
    assert photo.thumbnail.shape == (256, 154, 3)
    assert Image.open(io.BytesIO(photo.encoded)).size == (154, 256)


def test_a_thumbnail_is_at_most_384_pixels_long() -> None:
    assert prepare(save(picture(1_000, 600), "JPEG"), SMALL).thumbnail_size == (384, 230)


def test_what_is_transparent_becomes_white() -> None:
    clear = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
    clear.paste((0, 0, 200, 255), (32, 0, 64, 64))
    seen = pixels(prepare(save(clear, "PNG"), SMALL))
    assert seen[32, 8].tolist() == [255, 255, 255]
    assert seen[32, 56].tolist() == [0, 0, 200]


@pytest.mark.parametrize("form", ["GIF", "PNG"])
def test_a_transparent_colour_of_a_palette_becomes_white(form: str) -> None:
    palette = Image.new("P", (64, 64), 0)
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.paste(1, (32, 0, 64, 64))
    seen = pixels(prepare(save(palette, form, transparency=0), SMALL))
    assert seen[32, 8].tolist() == [255, 255, 255]
    assert seen[32, 56].tolist() == [0, 0, 200]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_of_grey_show_the_same_picture_as_8(form: str) -> None:
    grey = np.asarray(picture().convert("L"))
    deep = save(Image.fromarray(grey.astype(np.uint16) * 257), form)
    assert (pixels(prepare(deep, SMALL)) == pixels(prepare(save(Image.fromarray(grey), form), SMALL))).all()


def test_a_colour_profile_is_applied_and_dropped() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    swapped = swapped.replace("sRGB built-in".encode("utf-16-be"), "swapped colou".encode("utf-16-be"))
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    prepared = prepare(save(red, "PNG", icc_profile=swapped), SMALL)
    assert np.abs(pixels(prepared) - [0, 255, 0]).max() <= 2
    assert segments(prepared.encoded) == OWN_SEGMENTS


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_ink_colours_are_not_inverted(form: str) -> None:
    ink = Image.new("RGB", (64, 64), (250, 30, 60)).convert("CMYK")
    assert np.abs(pixels(prepare(save(ink, form), SMALL)) - [250, 30, 60]).max() <= 8


def test_only_the_first_frame_is_read() -> None:
    first, second = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "black")
    for form in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        moving = save(first, form, save_all=True, append_images=[second])
        assert pixels(prepare(moving, SMALL)).min() > 250


def test_limits_say_what_came_and_what_is_accepted() -> None:
    def refusal(data: bytes, **changed: int) -> str:
        with (
            ImageIntake(IntakeSettings(workers=1, **changed)) as strict,
            pytest.raises((ImageError, TooLargeError)) as caught,
        ):
            strict.take(data)
        return f"{type(caught.value).__name__}: {caught.value}"

    assert refusal(bytes(1_001), max_file_bytes=1_000).startswith(
        "TooLargeError: the file has 1,001 bytes, accepted are at most 1,000;"
    )
    assert refusal(save(picture(200, 100), "PNG"), max_pixels=10_000).startswith(
        "TooLargeError: the photo has 200 x 100 = 20,000 pixels, accepted are at most 10,000;"
    )
    assert refusal(save(picture(200, 31), "PNG")).startswith(
        "ImageError: the photo has 200 x 31 pixels, its shortest side must have at least 32;"
    )
    assert refusal(whole("progressive.jpeg"), max_jpeg_scans=9).startswith(
        "TooLargeError: the JPEG has more than 9 scans"
    )


def test_a_progressive_jpeg_of_ordinary_scans_is_taken() -> None:
    assert decode_worker.image_format(whole("progressive.jpeg")) == "JPEG"
    assert prepare(whole("progressive.jpeg"), SMALL).size == picture().size


@pytest.mark.slow
def test_what_takes_too_long_or_too_much_memory_is_refused_by_that_limit_and_the_next_photo_is_taken() -> None:
    slow = whole("jpeg")[:2] + b"\xff" * 19_000_000 + whole("jpeg")[2:]
    large = png(7_000, 7_000, zeros(7_000 * 21_001))
    with ImageIntake(IntakeSettings(workers=1, memory_mb=128, deadline_s=2)) as strict:
        before = strict.take(whole("jpeg"))
        with pytest.raises(TooLargeError, match="took more than 2 s"):
            strict.take(slow)
        assert strict.take(whole("jpeg")).content_hash == before.content_hash
        with pytest.raises(TooLargeError, match="needed more than 128 MiB"):
            strict.take(large)
        assert strict.take(whole("jpeg")).content_hash == before.content_hash


@needs_proc
def test_a_worker_that_was_killed_is_replaced_within_the_call() -> None:
    with ImageIntake(IntakeSettings(workers=1, deadline_s=20)) as opened:
        known = set(workers_of(os.getpid()))
        before = opened.take(whole("jpeg"))
        (worker,) = set(workers_of(os.getpid())) - known
        os.kill(worker, signal.SIGKILL)
        assert opened.take(whole("jpeg")).content_hash == before.content_hash


@needs_proc
def test_workers_know_nothing_of_the_environment_that_is_not_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEITEM_CATALOGUE__URL", "postgresql://shop:password@database/shop")
    with ImageIntake(IntakeSettings(workers=1)) as opened:
        known = set(workers_of(os.getpid()))
        opened.take(whole("jpeg"))
        (worker,) = set(workers_of(os.getpid())) - known
        assert b"password" not in Path(f"/proc/{worker}/environ").read_bytes()


def test_many_threads_get_the_answers_that_one_gets() -> None:
    files = [save(picture(64 + 8 * n, 64), "JPEG") for n in range(24)]
    with ImageIntake(IntakeSettings(workers=2, deadline_s=20)) as opened:
        alone = [opened.take(data).content_hash for data in files]
        together: dict[int, str] = {}

        def take_every_fourth(first: int) -> None:
            for n in range(first, len(files), 4):
                together[n] = opened.take(files[n]).content_hash

        threads = [threading.Thread(target=take_every_fourth, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [together[n] for n in range(len(files))] == alone


def test_a_call_that_finds_no_free_worker_in_time_is_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sameitem.core.image_intake.TURN_DEADLINE_S", 0.05)
    opened = ImageIntake(IntakeSettings(workers=1))
    opened._idle.get()  # as a call does that is still at work
    with pytest.raises(UnavailableError, match="try again"):
        opened.take(whole("jpeg"))


def test_an_interrupted_call_leaves_no_answer_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_pipe: object, _count: int) -> bytes:
        raise KeyboardInterrupt

    with ImageIntake(IntakeSettings(workers=1, deadline_s=20)) as opened:
        expected = opened.take(whole("png")).content_hash
        with monkeypatch.context() as patch:
            patch.setattr("sameitem.core.image_intake._exactly", interrupt)
            with pytest.raises(KeyboardInterrupt):
                opened.take(whole("jpeg"))
        assert opened.take(whole("png")).content_hash == expected


def test_a_closed_intake_refuses() -> None:
    opened = ImageIntake(IntakeSettings(workers=2))
    opened.close()
    with pytest.raises(ConflictError, match="closed"):
        opened.take(whole("jpeg"))


@needs_proc
@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed() -> None:
    program = (
        "import sys; from sameitem.core.image_intake import ImageIntake; "
        "from sameitem.core.settings import IntakeSettings; "
        "intake = ImageIntake(IntakeSettings()); intake.take(sys.stdin.buffer.read()); print('taken', flush=True); "
        "import threading; threading.Event().wait()"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(whole("jpeg"))
        parent.stdin.close()
        assert parent.stdout.readline() == b"taken\n"
        (worker,) = workers_of(parent.pid)
        parent.kill()
    ends = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < ends:
        time.sleep(0.01)
    assert not Path(f"/proc/{worker}").exists()


@needs_proc
@pytest.mark.slow
def test_no_hostile_file_crashes_stalls_swells_or_leaves_its_metadata() -> None:
    limit = IntakeSettings(workers=1)
    known = set(workers_of(os.getpid()))
    faults: list[str] = []
    count = 0
    with ImageIntake(limit) as opened:
        for file in hostile_files(0):
            count += 1
            started = time.monotonic()
            answered = _taken_or_reason(opened, file)
            seconds = time.monotonic() - started
            if seconds > limit.deadline_s + 0.5:
                faults.append(f"{file.name}: answer after {seconds:.1f} s")
            if file.expect not in ("either", "taken" if isinstance(answered, Photo) else "refused"):
                faults.append(f"{file.name}: should be {file.expect}, got {answered}")
            if isinstance(answered, Photo):
                if SECRET in answered.encoded or segments(answered.encoded) != OWN_SEGMENTS:
                    faults.append(f"{file.name}: something beside the picture was stored")
                if max(answered.width, answered.height) > limit.stored_side_px or max(answered.thumbnail.shape) > 384:
                    faults.append(f"{file.name}: stored too large")
            elif "fail" in answered:
                faults.append(f"{file.name}: {answered}")
            for worker in set(workers_of(os.getpid())) - known:
                if _peak_bytes(worker) > 1_000_000_000:
                    faults.append(f"{file.name}: {_peak_bytes(worker):,} bytes")
    assert count >= 300
    assert faults == []


def _taken_or_reason(opened: ImageIntake, file: HostileFile) -> Photo | str:
    try:
        return opened.take(file.data)
    except SameItemError as error:
        return str(error)


def _peak_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0)
