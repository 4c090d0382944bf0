"""Where data lies; and files read and written so that a killed process leaves the old file."""

import contextlib
import errno
import glob
import json
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import psutil

# The first line of the text file that Git leaves in place of a large file that was not downloaded.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

PACKAGE = Path(__file__).resolve().parents[1]


def data_folder(name: str, in_clone: str) -> Path:
    """A folder of data that ships with the package, but lies elsewhere in a clone.

    In a clone the package has a link to it, which building a wheel replaces by the files. Git on
    Windows may leave the link out.

    Args:
        name: in the package.
        in_clone: its path in the repository.
    """
    packaged = PACKAGE / name
    return packaged.resolve() if packaged.is_dir() else PACKAGE.parent / in_clone


def as_path(path: str | bytes | os.PathLike) -> Path:
    """A path as the user gave it, with "~" replaced by the home folder.

    Raises:
        TypeError: if it is no path.
    """
    # Not `Path.expanduser`, which fails for a name such as "~toy" if there is no user "toy".
    return Path(os.path.expanduser(os.fsdecode(path)))


def resolved(path: Path) -> Path:
    """The path that links lead to; nothing needs to be there.

    Raises:
        OSError: if links lead in a circle (`Path.resolve` says that in a way of its own).
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, f"the links of {path} lead in a circle") from error
    return path.resolve()


def check_file(path: Path) -> None:
    """Checks that a file is there and has a content of its own.

    Raises:
        FileNotFoundError: if there is no such file, or it is a link to one that is not there.
        ValueError: if it is a folder, empty, or a Git LFS pointer.
    """
    if not path.exists():
        target = (
            f": it links to {os.readlink(path)}, which is not there" if path.is_symlink() else ""
        )
        raise FileNotFoundError(f"{path} is missing{target}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if not start:
        raise ValueError(
            f"{path} is empty (0 bytes): a download or a copy was interrupted; get the file again"
        )
    if start == LFS_POINTER:
        raise ValueError(
            f"{path} is a Git LFS pointer, a few lines in place of the file itself; `git lfs pull` "
            "in its folder downloads the file"
        )


def write_atomically(write, path: Path) -> None:
    """Calls `write(temporary_path)`, then moves the finished file into place.

    If the process is killed or the disk is full, the old file stays as it was. A link stays, and
    the file that it leads to is replaced. The file has the rights of any new file, whichever rights
    the library that writes it chooses.
    """
    path = resolved(path)
    remove_leftovers(path)
    temporary = temporary_beside(path)
    try:
        rights = make_file(temporary)
        write(temporary)
        temporary.chmod(rights)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Where this process writes a file before it moves it into place."""
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


def check_writable(path: Path) -> None:
    """Tries out whether `write_atomically` can write a file; what is there stays as it is.

    Its folder is made if it does not exist.

    Raises:
        OSError: if it is a folder or a link to where nothing can be written, or if the rights do
            not suffice (names the file).
    """
    target = resolved(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{path} is a folder; a file should go there")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        make_file(temporary_beside(target))
        temporary_beside(target).unlink()
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written: {error}") from error
    check_owner(target)


def check_owner(path: Path) -> None:
    """Checks that no sticky bit keeps this user from replacing or removing a file.

    In a folder such as /tmp all may write, but only its owner may replace what belongs to a user.

    Raises:
        PermissionError: if a file of another user is there.
    """
    if not hasattr(os, "geteuid") or not os.path.lexists(path):  # Windows has no sticky bits
        return
    folder, owner = path.parent.stat(), path.lstat().st_uid
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, folder.st_uid, owner):
        raise PermissionError(
            errno.EPERM,
            f"{path} belongs to user {owner}, and in {path.parent}, whose sticky bit is set, user "
            f"{os.geteuid()} may not replace it",
        )


def remove_leftovers(path: Path) -> None:
    """Removes what processes that were killed left of their unfinished writes of a file."""
    for temporary in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        process = temporary.name[len(path.name) + 1 : -len(".tmp")]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            temporary.unlink(missing_ok=True)


def write_figure(draw, path: Path) -> None:
    """Saves the figure that `draw()` returns as PNG; if that fails, a warning says why.

    A figure shows what is saved elsewhere: a long run must not end because of it.
    """
    try:
        figure = draw()
        write_atomically(lambda temporary: figure.savefig(temporary, format="png"), path)
    except Exception as error:
        warnings.warn(
            f"all results are saved, but {path} could not be drawn: {error}", stacklevel=2
        )


def make_file(path: Path) -> int:
    """Makes an empty file and returns its rights, which follow from the process's umask."""
    path.unlink(missing_ok=True)
    path.touch()
    return stat.S_IMODE(path.stat().st_mode)


def sync(path: Path) -> None:
    """Waits until a file, or the list of files in a folder, is on the disk."""
    is_folder = path.is_dir()
    # Windows and some network file systems cannot do this with a folder.
    with contextlib.suppress(OSError) if is_folder else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_json(path: Path, kind: type = dict) -> Any:
    """The content of a JSON file, in UTF-8, UTF-16 or UTF-32, with or without a mark in front.

    Args:
        path: the file.
        kind: what it should hold: `dict` is a JSON object, `list` an array.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is empty, a Git LFS pointer, not valid JSON, or holds something else; the
            message names the file.
    """
    check_file(path)
    try:
        content = json.loads(path.read_bytes())  # finds out the encoding
    except (ValueError, RecursionError) as error:  # also of too many digits or brackets
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a {kind.__name__}")
    return content


def write_json(content: dict, path: Path) -> None:
    """Writes a JSON file and, if needed, the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
