"""Reading and writing files so that a killed process or a full disk leaves the old file intact."""

import json
import os
from pathlib import Path


def as_path(path: str | Path) -> Path:
    """A path as the user gave it, with "~" replaced by the home folder."""
    return Path(path).expanduser()


def write_atomically(write, path: Path) -> None:
    """Calls `write(temporary_path)`, then moves the finished file into place.

    If the process is killed or the disk is full, the old file stays as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not valid JSON; the message names the file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def write_json(content: dict, path: Path) -> None:
    """Writes a JSON file and, if needed, the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
