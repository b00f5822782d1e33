from pathlib import Path

import pytest

from sameitem.core.durable import publish, synced


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
