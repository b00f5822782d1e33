import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sameitem.core.errors import InputError, UnavailableError
from sameitem.core.secret import SECRET, SECRET_BYTES, read_secret


def test_a_shop_has_one_secret_and_another_shop_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = read_secret(tmp_path / "a")
    assert len(first) == SECRET_BYTES
    assert first == read_secret(tmp_path / "a") != read_secret(tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == [SECRET]


def test_nobody_else_can_read_it_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    link = os.link

    def noting(part: Path, file: Path) -> None:
        modes.append(stat.S_IMODE(part.stat().st_mode))
        link(part, file)

    monkeypatch.setattr(os, "link", noting)
    before = os.umask(0)
    try:
        read_secret(tmp_path)
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert stat.S_IMODE((tmp_path / SECRET).stat().st_mode) == 0o600


def test_one_that_another_process_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = bytes(range(SECRET_BYTES))
    link = os.link

    def overtaken(part: Path, file: Path) -> None:
        file.write_bytes(theirs)
        link(part, file)

    monkeypatch.setattr(os, "link", overtaken)
    assert read_secret(tmp_path) == theirs


def test_processes_that_begin_at_once_agree(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from sameitem.core.secret import read_secret\n"
    code += "sys.stdin.read(); print(read_secret(Path(sys.argv[1])).hex())"
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    said = set()
    for process in processes:
        assert process.stdout is not None
        said.add(process.stdout.read().strip())
        process.stdout.close()
        assert process.wait() == 0
    assert said == {read_secret(tmp_path).hex()}


@pytest.mark.parametrize("content", [b"", b"cut", bytes(SECRET_BYTES + 1)])
def test_a_damaged_one_is_an_error_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SECRET).write_bytes(content)
    with pytest.raises(InputError, match=f"need 32 bytes, got {len(content)}; restore it from the backup"):
        read_secret(tmp_path)
    assert (tmp_path / SECRET).read_bytes() == content


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be read or made"):
        read_secret(tmp_path / "none")
