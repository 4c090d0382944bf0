"""Replaces a set of files in a folder, all or none, also if the process is killed meanwhile.

The new files are first written into a hidden folder inside the folder itself. So they are on its
disk, even if it is a mount point, a link or the working directory. When all are complete, a journal
lists them, and from then on the set counts as written. The files are moved into place one by one,
and the old ones out of the way. One of them, without which other programs refuse the folder, is
moved out first and in last. What a killed process left is finished with the help of the journal, as
databases do. If a file cannot be moved, all others are moved back.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from .files import (
    check_owner,
    make_file,
    read_json,
    resolved,
    sync,
    write_atomically,
    write_json,
)

try:
    import fcntl
except ImportError:  # Windows has none; there, two saves at the same time are not noticed
    fcntl = None

HIDDEN = ".minidream-save-"  # and eight hexadecimal digits: the names of hidden folders
ANY_HIDDEN = HIDDEN + 8 * "[0-9a-f]"
JOURNAL = "journal.json"


def replace_files(folder: Path, last: str, write: Callable[[Path, set[str]], set[str]]) -> None:
    """Writes a set of files into a folder, all or none; nothing else in it is touched.

    Args:
        folder: where to; it is made if it does not exist.
        last: the file that other programs read first.
        write: `write(place, unfinished)` writes all files into an empty folder `place`. It returns
            the names of the files of the set that is replaced; those that are not written anew are
            removed. `unfinished` are the names from earlier journals that cannot be followed.

    Raises:
        ValueError: if a folder or a link is where a file should go.
        OSError: if another process is saving into the folder, if the rights do not suffice, if a
            mount is where a file should go, if a file cannot be moved or if the disk is full. These
            and whatever `write` raises leave the folder as it was.
    """
    folder = resolved(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    hidden = folder / f"{HIDDEN}{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            unfinished, useless = clear(folder)
            try:
                (hidden / "new").mkdir(parents=True)
                replaced = write(hidden / "new", unfinished)
                made = [*new_folders(folder, hidden / "new"), *made]
                complete(folder, hidden, last, replaced)
                for path in useless:
                    shutil.rmtree(path)
                move(folder, hidden)
            except BaseException as error:  # Ctrl-C, too
                if (hidden / JOURNAL).exists():
                    # With a useless journal, what was there before was incomplete already.
                    if isinstance(error, (OSError, ValueError)) and not useless:
                        move_back(folder, hidden)
                        reason = f"nothing was saved into {folder}: {error.__cause__ or error}"
                        if isinstance(error, OSError):
                            raise OSError(error.errno, reason) from error
                        raise ValueError(reason) from error
                    move(folder, hidden)  # going on takes no time
                raise
            finally:
                if not (hidden / JOURNAL).exists():
                    shutil.rmtree(hidden, ignore_errors=True)
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):  # it was not made, or is not empty
                path.rmdir()
        raise


def finish_replacing(folder: Path) -> None:
    """Finishes what a killed process left in a folder; waits for a process that is moving files.

    Raises:
        ValueError: if files were changed or removed meanwhile, so that the set is incomplete.
        OSError: if the rights do not suffice.
    """
    if any(folder.glob(f"{ANY_HIDDEN}/{JOURNAL}")):
        with locked(folder, wait=True):
            for journal in folder.glob(f"{ANY_HIDDEN}/{JOURNAL}"):
                move(folder, journal.parent)


def was_cut_short(folder: Path) -> bool:
    """Whether a process was killed before all its files were complete."""
    return any(folder.glob(ANY_HIDDEN))


@contextlib.contextmanager
def unchanged(folder: Path, last: str):
    """A context to read a set of files in; `last` is as in `replace_files`.

    Raises:
        ValueError: if the files were replaced meanwhile, so that old and new ones may be mixed.
    """
    before = stamp(folder / last)
    try:
        yield
    finally:
        if stamp(folder / last) != before:
            raise ValueError(f"{folder} was saved into while it was read; load it again")


# --------------------------------------------------------------------------------------------------
# The steps


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False):
    """A context in which no other process changes the set of files; a killed one frees its lock.

    Raises:
        BlockingIOError: if another process has the lock, unless `wait` is true.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BlockingIOError(
                errno.EAGAIN, f"another save into {folder} is not finished"
            ) from None
        yield
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked meanwhile has it, too
    finally:
        os.close(descriptor)


def clear(folder: Path) -> tuple[set[str], list[Path]]:
    """Finishes earlier saves, or removes what they left.

    Returns:
        The names in journals that cannot be followed, since files were changed meanwhile, and the
        hidden folders of these.
    """
    names, useless = set(), []
    for hidden in folder.glob(ANY_HIDDEN):
        if not (hidden / JOURNAL).exists():
            shutil.rmtree(hidden)
            continue
        try:
            move(folder, hidden)
        except ValueError:
            journal = read_json(hidden / JOURNAL)
            names |= {*journal["files"], *journal["remove"]}
            useless.append(hidden)
    return names, useless


def new_folders(folder: Path, new: Path) -> list[Path]:
    """The subfolders that a set of new files needs and that are not there, deepest first."""
    needed = [folder / path.relative_to(new) for path in new.rglob("*") if path.is_dir()]
    return sorted((path for path in needed if not path.exists()), reverse=True)


def check_places(folder: Path, names: Iterable[str]) -> None:
    """Checks that files can be moved into a folder; their names may begin with subfolders.

    Raises:
        ValueError: if a name leads out of the folder, or if a folder or a link is in the way.
        OSError: if a subfolder is a file or may not be written, if a file may not be replaced, or
            if something is mounted where it or its subfolder should be.
    """
    mounts, effective = mount_points(), os.access in os.supports_effective_ids
    for name in names:
        path, parts = folder / name, Path(name).parts
        if Path(name).is_absolute() or ".." in parts:
            raise ValueError(f"{name!r} is not a name inside {folder}")
        for parent in path.parents[: len(parts) - 1]:
            if parent.is_symlink():  # its files may belong to other folders, too
                raise ValueError(f"{parent} is a link; put a folder of its own in its place")
            if not parent.exists():
                continue
            if not parent.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder")
            if not os.access(parent, os.W_OK, effective_ids=effective):
                raise PermissionError(errno.EACCES, f"{parent} may not be written")
            if parent in mounts or parent.stat().st_dev != folder.stat().st_dev:
                raise OSError(
                    errno.EXDEV,
                    f"{parent} is a mount of its own, into which no file can be moved from "
                    f"{folder}; unmount it first, or choose another folder",
                )
        if path in mounts:
            raise OSError(
                errno.EBUSY,
                f"{path} is a mount of its own, which no file can replace; unmount it first, or "
                "choose another folder",
            )
        if path.is_dir() and not path.is_symlink():
            raise ValueError(f"{path} is a folder; a file should go there")
        check_owner(path)


def mount_points() -> set[Path]:
    """Where something is mounted; only Linux, which also mounts single files, lists that."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return set()
    places = [line.split(b" ")[4] for line in lines]
    # Blanks and backslashes are written as the digits of their codes.
    places = [
        re.sub(rb"\\(\d{3})", lambda code: bytes([int(code[1], 8)]), place) for place in places
    ]
    return {Path(os.fsdecode(place)) for place in places}


def complete(folder: Path, hidden: Path, last: str, replaced: set[str]) -> None:
    """Writes all new files out to the disk, and then their journal; errors as `replace_files`."""
    new, rights = hidden / "new", make_file(hidden / "empty")
    names = {path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file()}
    check_places(folder, names | replaced)
    for name in names:
        (new / name).chmod(rights)
    for path in (*new.rglob("*"), new):
        sync(path)
    journal = {
        "files": {name: stamp(new / name) for name in [*sorted(names - {last}), last]},
        "remove": sorted(replaced - names),
        "replaces": stamp(folder / last),
    }
    write_atomically(lambda path: write_json(journal, path), hidden / JOURNAL)
    for path in (hidden, folder):
        sync(path)


def move(folder: Path, hidden: Path) -> None:
    """Moves files into place as the journal says; this may be repeated after an interruption.

    Raises:
        ValueError: if a file was changed or removed since the journal was written. (If so, the
            result would be a mixture.) Nothing is moved then.
        OSError: if the rights do not suffice.
    """
    journal, new = read_json(hidden / JOURNAL), hidden / "new"
    files, last = journal["files"], list(journal["files"])[-1]
    waiting = [name for name in files if (new / name).exists()]
    changed = [
        name
        for name, expected in files.items()
        if stamp((new if name in waiting else folder) / name) != expected
    ]
    in_place = len({*files} - {*waiting, *changed})
    cut_short = (
        f"a save into {folder} was cut short when {in_place} of {len(files)} files were in place"
    )
    if stamp(folder / last) not in (None, journal["replaces"], files[last]):
        changed.append(last)
    if changed:
        raise ValueError(
            f"{cut_short}, and {', '.join(changed[:5])} changed since. Save into it again; or put "
            f"all files of one checkpoint there and remove {hidden.name}"
        )
    try:
        check_places(folder, (*waiting, *journal["remove"]))
        put_aside(folder, hidden, [last] if last in waiting else [])
        put_aside(folder, hidden, journal["remove"])
        for name in waiting:
            put_aside(folder, hidden, [name])
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, folder / name)
        for parent in {(folder / name).parent for name in files}:
            sync(parent)
        (hidden / JOURNAL).unlink()
        shutil.rmtree(hidden)
    except OSError as error:
        raise OSError(
            error.errno, f"{cut_short}, and the others cannot be moved: {error}"
        ) from error


def put_aside(folder: Path, hidden: Path, names: Iterable[str]) -> None:
    """Moves those of some files that are there out of the way."""
    for name in names:
        if os.path.lexists(folder / name):
            (hidden / "old" / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / name, hidden / "old" / name)


def move_back(folder: Path, hidden: Path) -> None:
    """Undoes what `move` did before it failed; if it is interrupted, `move` can still be repeated.

    Raises:
        OSError: if a file cannot be moved back; the journal stays then.
    """
    files, new, old = read_json(hidden / JOURNAL)["files"], hidden / "new", hidden / "old"
    last = list(files)[-1]
    for name in (last, *files):
        if not (new / name).exists() and stamp(folder / name) == files[name]:
            os.replace(folder / name, new / name)
    there = [path for path in old.rglob("*") if path.is_symlink() or not path.is_dir()]
    for path in sorted(there, key=lambda path: path == old / last):
        os.replace(path, folder / path.relative_to(old))
    for parent in {folder, *((folder / path.relative_to(old)).parent for path in there)}:
        sync(parent)
    (hidden / JOURNAL).unlink()


def stamp(path: Path) -> list[int] | None:
    """What tells a file from another of the same name: size and time of writing; None without."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]
