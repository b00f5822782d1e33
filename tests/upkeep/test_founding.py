"""Making a new shop."""

import os
from pathlib import Path

import pytest

from sameitem.core.errors import ConflictError, InputError
from sameitem.core.settings import FILE_NAME, Settings, load_settings
from sameitem.upkeep.founding import found_shop


def test_a_new_shop_has_every_setting_at_its_default(tmp_path: Path) -> None:
    found_shop(tmp_path / "new" / "shop")
    settings, origins = load_settings(tmp_path / "new" / "shop")
    assert settings == Settings()
    assert "file" not in origins.values()


def test_a_folder_that_holds_other_things_may_become_a_shop(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    found_shop(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_shop_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("[search]\nnum = 7\n")
    with pytest.raises(ConflictError, match="is a shop already; nothing was changed"):
        found_shop(tmp_path)
    assert load_settings(tmp_path)[0].search.num == 7


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file, need a folder"):
        found_shop(tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot make a shop in .*: Not a directory"):
        found_shop(tmp_path / "file" / "shop")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot make a shop in .*: Permission denied"):
        found_shop(tmp_path / "shop")
