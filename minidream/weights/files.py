"""Reading and writing files so that a kill or a full disk leaves the old file whole."""

import json
import os
from pathlib import Path


def write_atomically(write, path: Path) -> None:
    """Calls `write(temporary_path)`, then moves the file into place.

    A kill or a full disk leaves the old file whole.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict:
    """A JSON file; FileNotFoundError or ValueError name it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def write_json(content: dict, path: Path) -> None:
    """A JSON file, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=str) + "\n")
