"""Making a new shop."""

from pathlib import Path

from sameitem.core.errors import ConflictError, InputError
from sameitem.core.settings import FILE_NAME, commented_file


def found_shop(folder: Path) -> None:
    """Make an empty shop: a folder with a commented settings file.

    Raises:
        ConflictError: there is a shop already; it is left as it is.
        InputError: the folder cannot be made.
    """
    if (folder / FILE_NAME).exists():
        raise ConflictError(f"{folder} is a shop already; nothing was changed")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE_NAME).open("x", encoding="utf-8") as file:
            file.write(commented_file())
    except FileExistsError as error:
        raise InputError(f"{folder} is a file, need a folder to make a shop in") from error
    except OSError as error:
        raise InputError(f"cannot make a shop in {folder}: {error.strerror}") from error
