import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from sameitem.core import durable
from sameitem.core.durable import publish, synced, write_whole


def test_a_published_folder_has_its_final_name_and_its_content(tmp_path: Path) -> None:
    draft, target = tmp_path / ".draft", tmp_path / "final"
    draft.mkdir()
    with synced(draft / "file") as stream:
        stream.write(b"content")
    publish(draft, target)
    assert (target / "file").read_bytes() == b"content"
    assert not draft.exists()


def test_a_folder_that_holds_something_is_never_replaced(tmp_path: Path) -> None:
    for name in ("draft", "final"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    with pytest.raises(OSError, match="final"):
        publish(tmp_path / "draft", tmp_path / "final")
    assert (tmp_path / "final" / "final").exists()


def test_a_file_is_written_once(tmp_path: Path) -> None:
    with synced(tmp_path / "file") as stream:
        stream.write(b"first")
    with pytest.raises(FileExistsError), synced(tmp_path / "file") as stream:
        stream.write(b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_a_file_is_whole_whichever_of_two_threads_replaces_it_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, opened = threading.Barrier(2), durable.synced

    @contextmanager
    def together(file: Path) -> Iterator[BinaryIO]:
        with opened(file) as stream:
            both.wait(10)  # until the other thread has its file open, too
            yield stream

    monkeypatch.setattr(durable, "synced", together)
    contents = [b"one" * 1000, b"other"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda content: write_whole(tmp_path / "file", content), contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_could_not_be_written_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "file", b"old")
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def interrupt(_descriptor: int) -> None:
    raise KeyboardInterrupt
