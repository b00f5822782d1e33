import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hostile_images import picture, save, whole
from sameitem.core.errors import ImageError, InputError, NotFoundError, UnavailableError
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import ContentHash, Photo


def photo(encoded: bytes) -> Photo:
    blank = np.zeros((1, 1, 3), np.uint8)
    return Photo(
        content_hash=ContentHash(hashlib.sha256(encoded).hexdigest()),
        encoded=encoded,
        width=1,
        height=1,
        thumbnail=blank,
        original_width=1,
        original_height=1,
    )


@pytest.fixture
def store(tmp_path: Path) -> PhotoStore:
    return PhotoStore(tmp_path / "images")


def test_what_was_put_is_read_back_under_its_hash(store: PhotoStore) -> None:
    kept = photo(whole("jpeg"))
    store.put(kept)
    assert store.has(kept.content_hash)
    assert store.read(kept.content_hash) == kept.encoded
    name = kept.content_hash
    assert store.path(name).parts[-4:] == ("images", name[:2], name[2:4], f"{name}.jpg")


def test_pixels_are_those_of_the_stored_jpeg(store: PhotoStore) -> None:
    kept = photo(save(picture(), "JPEG"))
    store.put(kept)
    seen = store.pixels(kept.content_hash)
    assert seen.shape == (112, 160, 3)
    assert seen.dtype == np.uint8
    assert np.abs(seen.astype(int) - np.asarray(picture(), int)).mean() < 6


def test_putting_again_leaves_the_file_alone(store: PhotoStore) -> None:
    kept = photo(b"first")
    store.put(kept)
    before = store.path(kept.content_hash).stat()
    store.put(kept)
    after = store.path(kept.content_hash).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_that_lost_its_end_is_written_again(store: PhotoStore) -> None:
    kept = photo(b"all of it")
    store.put(kept)
    store.path(kept.content_hash).write_bytes(b"all")
    store.put(kept)
    assert store.read(kept.content_hash) == b"all of it"


def test_hashes_are_those_of_the_photos_in_order_and_without_the_deleted(store: PhotoStore) -> None:
    kept = [photo(b"%d" % n) for n in range(40)]
    for one in kept:
        store.put(one)
    store.delete(kept[0].content_hash)
    store.delete(kept[0].content_hash)
    store.path(kept[1].content_hash).with_name("notes.txt").write_text("not a photo")
    assert list(store.hashes()) == sorted(one.content_hash for one in kept[1:])
    assert not store.has(kept[0].content_hash)


def test_a_store_that_was_never_written_is_empty(store: PhotoStore) -> None:
    assert list(store.hashes()) == []


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "/" + "0" * 63, "0" * 64 + "\n", "../" + "0" * 61]
)
def test_only_64_hex_digits_are_a_name(store: PhotoStore, name: str) -> None:
    for use in (store.path, store.read, store.has, store.pixels, store.delete):
        with pytest.raises(InputError, match="64 lower-case hex digits"):
            use(ContentHash(name))


def test_a_missing_photo_is_not_found(store: PhotoStore) -> None:
    absent = ContentHash("0" * 64)
    for use in (store.read, store.pixels):
        with pytest.raises(NotFoundError, match=absent):
            use(absent)


def test_a_photo_damaged_on_disk_is_named(store: PhotoStore) -> None:
    kept = photo(whole("jpeg"))
    store.put(kept)
    store.path(kept.content_hash).write_bytes(kept.encoded[:700])
    with pytest.raises(ImageError, match=kept.content_hash):
        store.pixels(kept.content_hash)


def test_unfinished_files_of_killed_processes_are_cleared_and_those_of_living_ones_are_not(
    store: PhotoStore, tmp_path: Path
) -> None:
    store.put(photo(b"makes the folders"))
    incoming = tmp_path / "images" / "incoming"
    (incoming / "old").write_bytes(b"half")
    (incoming / "new").write_bytes(b"half")
    os.utime(incoming / "old", (0, 0))
    store.put(photo(b"another"))
    assert [entry.name for entry in incoming.iterdir()] == ["new"]


# Puts photos of drawn bytes, the same for every process, and prints the hash of each that was acknowledged.
PUT_MANY = """
import hashlib, random, sys
from pathlib import Path
import numpy as np
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import Photo
draw = random.Random(int(sys.argv[2]))
store = PhotoStore(Path(sys.argv[1]))
for _ in range(int(sys.argv[3])):
    encoded = draw.randbytes(60_000)
    name = hashlib.sha256(encoded).hexdigest()
    store.put(Photo(name, encoded, 1, 1, np.zeros((1, 1, 3), np.uint8), 1, 1))
    print(name, flush=True)
"""


def start_putting(folder: Path, seed: int, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PUT_MANY, str(folder), str(seed), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )


def assert_every_photo_is_whole(store: PhotoStore) -> None:
    for name in store.hashes():
        assert hashlib.sha256(store.read(name)).hexdigest() == name


@pytest.mark.slow
def test_two_processes_may_put_the_same_photos_at_once(tmp_path: Path) -> None:
    with start_putting(tmp_path, 1, 150) as one, start_putting(tmp_path, 1, 150) as other:
        names = one.communicate()[0].split()
        assert other.communicate()[0].split() == names
        assert (one.returncode, other.returncode) == (0, 0)
    store = PhotoStore(tmp_path)
    assert list(store.hashes()) == sorted(names)
    assert_every_photo_is_whole(store)
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.slow
def test_what_was_acknowledged_before_a_kill_is_there_and_whole(tmp_path: Path) -> None:
    draw = random.Random(0)
    store = PhotoStore(tmp_path)
    for seed in range(12):
        with start_putting(tmp_path, seed, 100_000) as writer:
            assert writer.stdout is not None
            acknowledged = [writer.stdout.readline().strip() for _ in range(draw.randrange(1, 60))]
            writer.send_signal(signal.SIGKILL)
        assert all(store.has(ContentHash(name)) for name in acknowledged)
    assert_every_photo_is_whole(store)


def test_a_disk_that_takes_nothing_is_said_to_be_unavailable(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(UnavailableError, match="could not be stored"):
        PhotoStore(tmp_path / "images").put(photo(b"x"))
