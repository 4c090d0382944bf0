"""Sets of files are replaced in a folder, and interrupted before each step that changes it."""

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from models_shared import in_child, status, without_privileges

from minidream.weights import replacing
from minidream.weights.files import check_writable, read_json, write_json
from minidream.weights.replacing import (
    JOURNAL,
    clear,
    finish_replacing,
    locked,
    replace_files,
    unchanged,
)

OLD = {
    "one.txt": "old one",
    "sub/two.txt": "old two",
    "gone.txt": "old",
    "sub/gone.txt": "old",
    "config.json": "old",
}
NEW = {
    "one.txt": "new one",
    "sub/two.txt": "new two",
    "sub/deep/three.txt": "new",
    "config.json": "newer",
}
FOREIGN = {"thesis.tex": "years of work", "sub/mine.txt": "more of it", ".git/HEAD": "main"}


def put(folder: Path, files: dict[str, str], earlier: dict[str, str]) -> None:
    """Replaces one set of files by another one."""

    def write(place: Path, unfinished: set[str]) -> set[str]:
        put_plainly(place, files)
        return set(earlier) | unfinished

    replace_files(folder, "config.json", write)


def put_plainly(folder: Path, files: dict[str, str]) -> None:
    """Writes files one after another."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def texts(folder: Path) -> dict[str, str]:
    """{name: text} of all files in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


def ours(folder: Path) -> dict[str, str]:
    """The same without what was there before; fails if one of these was touched."""
    found = texts(folder)
    assert {name: found.pop(name) for name in FOREIGN} == FOREIGN
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with the old set, among files of other things; nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    put_plainly(tmp_path / "folder", OLD | FOREIGN)
    return tmp_path / "folder"


STEPS = ("mkdir", "replace", "unlink", "rmdir")  # the calls of `os` that change a folder


def put_until(step: int, folder: Path, end) -> bool:
    """Replaces the old set by the new one in another process, and calls `end` before a step.

    Returns:
        Whether there were so many steps.
    """

    def run():
        left = step

        def counted(call):
            def wrapper(*arguments, **options):
                nonlocal left
                left -= 1
                if left == -1:
                    end()
                return call(*arguments, **options)

            return wrapper

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            put(folder, NEW, OLD)
        except KeyboardInterrupt:
            os._exit(2)
        os._exit(0)

    return {0: False, 1: True, 2: True}[status(in_child(run))]


def kill():
    os._exit(1)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("end", [kill, interrupt])
def test_before_any_step_the_old_set_stays_or_the_new_one_is_finished(folder, tmp_path, end):
    found, step = [], 0
    start = shutil.copytree(folder, tmp_path / "start")
    while put_until(step, folder, end):
        if end is interrupt:
            assert ours(folder) in (OLD, NEW), "nothing is left to be finished"
        finish_replacing(folder)
        left = {name: text for name, text in ours(folder).items() if name[0] != "."}
        assert left in (OLD, NEW)
        found.append("old" if left == OLD else "new")
        put(folder, OLD, NEW)
        assert ours(folder) == OLD and not list(folder.glob(".minidream*"))
        shutil.rmtree(folder)
        shutil.copytree(start, folder)
        step += 1
    assert found == ["old"] * found.count("old") + ["new"] * found.count("new")
    assert found.count("old") > 3 and found.count("new") > 3
    assert ours(folder) == NEW


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux names open files")
def test_all_files_are_on_the_disk_before_the_journal_and_the_journal_before_any_move(
    folder, monkeypatch
):
    calls, replace = [], os.replace

    def named(descriptor) -> str:
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    def replaced(source, target):
        kind = "put aside" if "old" in Path(target).parts else "move"
        calls.append(f"{kind} {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(f"sync {named(descriptor)}"))
    monkeypatch.setattr(os, "replace", replaced)
    put(folder, NEW, OLD)
    journal = calls.index(f"move {JOURNAL}")
    names = [Path(name).name for name in NEW]
    assert {f"sync {name}" for name in names} <= set(calls[:journal])
    assert calls[journal - 1].startswith(f"sync {JOURNAL}")
    aside = [index for index, call in enumerate(calls) if call.startswith("put aside")]
    assert min(aside) > journal and calls[min(aside)] == "put aside config.json"
    moves = [call for call in calls if call.startswith("move")]
    assert moves[0] == f"move {JOURNAL}" and moves[-1] == "move config.json"
    assert {f"move {name}" for name in names} == set(moves[1:]) and len(moves) == 1 + len(NEW)


def test_while_files_are_moved_there_is_no_config(folder):
    """So other programs refuse the folder; whenever there is one, all other files fit it."""
    step, without = 0, 0
    while put_until(step, folder, kill):
        found = {name: text for name, text in ours(folder).items() if name[0] != "."}
        without += "config.json" not in found
        assert found in (OLD, NEW) or "config.json" not in found
        put(folder, OLD, NEW)
        step += 1
    assert without >= len(NEW)


def moved(folder: Path, count: int) -> Path:
    """Kills a process after it has moved some files; its hidden folder."""
    rename, left = os.rename, [count]

    def run():
        def replace(source, target):
            left[0] -= "new" in Path(source).parts
            if left[0] < 0:
                kill()
            rename(source, target)

        os.replace = replace
        put(folder, NEW, OLD)

    assert status(in_child(run)) == 1
    (hidden,) = folder.glob(".minidream-save-*")
    return hidden


@pytest.mark.parametrize("count", range(len(NEW)))
def test_a_backup_that_was_put_back_is_not_mixed_with_the_rest(folder, count):
    hidden = moved(folder, count)
    put_plainly(folder, OLD)
    with pytest.raises(ValueError) as error:
        finish_replacing(folder)
    for words in (f"{count >= 2:d} of 4 files", "config.json changed since", hidden.name):
        assert words in str(error.value)
    shutil.rmtree(hidden)
    finish_replacing(folder)
    assert ours(folder) == OLD | ({"sub/deep/three.txt": "new"} if count >= 2 else {})


def test_a_set_that_lacks_a_file_is_not_finished_but_replaced(folder):
    hidden = moved(folder, 1)
    (hidden / "new" / "sub" / "two.txt").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 files.*sub/two\.txt changed since"):
        finish_replacing(folder)
    put(folder, OLD, {})
    assert ours(folder) == OLD, "names in the old journal are those of the set"


def test_a_failed_attempt_keeps_what_says_that_the_set_is_incomplete(folder):
    hidden = moved(folder, 1)
    (hidden / "new" / "sub" / "two.txt").unlink()

    def fail(place, unfinished):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        replace_files(folder, "config.json", fail)
    with pytest.raises(ValueError, match="cut short"):
        finish_replacing(folder)


@pytest.mark.parametrize("key", ["files", "remove"])
@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "link/file", "sub"])
def test_a_journal_from_elsewhere_changes_nothing_outside(folder, key, name):
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "file").write_text("outside", encoding="utf-8")
    (folder / "link").symlink_to(outside)
    hidden = moved(folder, 0)
    journal = read_json(hidden / JOURNAL)
    if key == "files":
        journal["files"] = {name: None} | journal["files"]
    else:
        journal["remove"].append(name)
    write_json(journal, hidden / JOURNAL)
    before = texts(folder.parent)
    with pytest.raises((ValueError, OSError)):
        finish_replacing(folder)
    assert texts(folder.parent) == before


@pytest.mark.parametrize("place", ["sub", "sub/two.txt"])
def test_links_and_folders_in_the_way_are_refused(folder, tmp_path, place):
    if place == "sub":
        (folder / "sub").rename(tmp_path / "shared")
        (folder / "sub").symlink_to(tmp_path / "shared")
    else:
        (folder / place).unlink()
        (folder / place).mkdir()
    before = texts(tmp_path)
    with pytest.raises(ValueError, match=f"{folder / place} is a (link|folder)"):
        put(folder, NEW, OLD)
    assert texts(tmp_path) == before and not list(folder.glob(".minidream*"))


def test_a_file_that_is_a_link_is_replaced_and_what_it_leads_to_stays(folder, tmp_path):
    """As in the cache of the hub, where many folders share the files that links lead to."""
    (folder / "one.txt").rename(tmp_path / "blob")
    (folder / "one.txt").symlink_to(tmp_path / "blob")
    put(folder, NEW, OLD)
    assert ours(folder) == NEW and not (folder / "one.txt").is_symlink()
    assert (tmp_path / "blob").read_text(encoding="utf-8") == "old one"


def everything(folder: Path) -> dict[str, str | None]:
    """The texts of all files in a folder, None for a subfolder."""
    found = {path.relative_to(folder).as_posix(): None for path in folder.rglob("*")}
    return found | texts(folder)


@pytest.mark.parametrize("name", sorted({*OLD, *NEW}))
def test_a_file_that_cannot_be_moved_leaves_the_old_set(folder, monkeypatch, name):
    """As one that was made immutable, or that another program holds open on Windows."""
    before, replace = everything(folder), os.replace

    def move(source, target):
        if folder / name in (source, target):
            raise PermissionError(errno.EPERM, "not permitted", str(folder / name))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", move)
        with pytest.raises(PermissionError, match=f"nothing was saved into {folder}.*{name}"):
            put(folder, NEW, OLD)
    assert everything(folder) == before
    finish_replacing(folder)
    assert everything(folder) == before, "what was refused is not completed later"
    put(folder, NEW, OLD)
    assert ours(folder) == NEW


def test_a_kill_while_files_are_moved_back_leaves_one_of_the_sets(folder, tmp_path):
    start, found = shutil.copytree(folder, tmp_path / "start"), []
    for step in range(20):

        def run(left=step):
            replace, failed = os.replace, False

            def move(source, target):
                nonlocal left, failed
                if target == folder / "config.json" and not failed:
                    failed = True
                    raise PermissionError(errno.EPERM, "not permitted")
                left -= failed
                if left < 0:
                    kill()
                replace(source, target)

            os.replace = move
            with pytest.raises(PermissionError):
                put(folder, NEW, OLD)
            os._exit(0)

        killed = status(in_child(run)) == 1
        finish_replacing(folder)
        assert ours(folder) == (NEW if killed else OLD)
        found.append(killed)
        if not killed:
            break
        shutil.rmtree(folder)
        shutil.copytree(start, folder)
    assert found[-1] is False and len(found) > 5


def test_what_was_incomplete_before_is_not_made_to_look_complete(folder, monkeypatch):
    hidden, replace = moved(folder, 1), os.replace
    (hidden / "new" / "sub" / "two.txt").unlink()

    def move(source, target):
        if target == folder / "one.txt":
            raise PermissionError(errno.EPERM, "not permitted")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", move)
        with pytest.raises(PermissionError, match="cut short"):
            put(folder, OLD, OLD)
    assert not (folder / "config.json").exists()
    finish_replacing(folder)
    assert ours(folder) == OLD


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs two users")
@pytest.mark.parametrize("place", ["", "sub"])
@pytest.mark.parametrize("mine", [False, True])
def test_files_of_others_in_a_sticky_folder_are_refused_before_anything_is_written(place, mine):
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to others
        parent, folder = Path(name), Path(name) / "folder"
        put_plainly(folder, OLD)
        parent.chmod(0o755)
        for path in (folder, folder / "sub"):
            path.chmod(0o777)
        (folder / place).chmod(0o1777)
        files = [path for path in (folder / place).iterdir() if path.is_file()]
        with without_privileges(*(files if mine else [])):
            if mine:
                put(folder, NEW, OLD)
            else:
                with pytest.raises(PermissionError, match="belongs to user 0, and in .* sticky"):
                    put(folder, NEW, OLD)
                with pytest.raises(PermissionError, match="belongs to user 0, and in .* sticky"):
                    check_writable(files[0])
        assert everything(folder) == {"sub": None} | OLD if not mine else texts(folder) == NEW


@pytest.mark.parametrize(
    "place, disk",
    [
        *[(place, "the same") for place in ("sub", "sub/two.txt", "gone.txt", "config.json")],
        ("sub", "another"),
    ],
)
def test_what_is_mounted_inside_is_refused_before_anything_is_moved(tmp_path, place, disk):
    folder, outside = tmp_path / "my models", tmp_path / "outside"
    put_plainly(folder, OLD)
    if (folder / place).is_dir():
        shutil.copytree(folder / place, outside)
    else:
        shutil.copy(folder / place, outside)
    source = ["--bind", outside] if disk == "the same" else ["-t", "tmpfs", "none"]
    if subprocess.run(["mount", *source, folder / place], capture_output=True).returncode:
        pytest.skip("only root may mount, and only outside of most containers")
    try:
        before = everything(folder)
        with pytest.raises(OSError, match=f"{folder / place} is a mount"):
            put(folder, NEW, OLD)
        assert everything(folder) == before
    finally:
        subprocess.run(["umount", "-l", folder / place], check=True)
    put(folder, NEW, OLD)
    assert texts(folder) == NEW


def test_a_new_folder_is_made_and_removed_again_if_nothing_comes_of_it(tmp_path):
    def fail(place, unfinished):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_files(tmp_path / "a" / "b", "config.json", fail)
    assert not list(tmp_path.iterdir())
    put(tmp_path / "a" / "b", NEW, {})
    assert texts(tmp_path / "a" / "b") == NEW


# --------------------------------------------------------------------------------------------------
# Two at a time


def test_a_second_writer_is_refused_and_leaves_the_first_alone(folder):
    def write(place: Path, unfinished: set[str]) -> set[str]:
        put_plainly(place, NEW)
        with pytest.raises(OSError, match="another save into .*folder is not finished"):
            put(folder, OLD, OLD)
        return set(OLD)

    replace_files(folder, "config.json", write)
    assert ours(folder) == NEW
    put(folder, OLD, NEW)
    assert ours(folder) == OLD


def test_a_writer_that_forked_meanwhile_does_not_lock_the_folder_for_longer(folder):
    awake, wake = os.pipe()
    with locked(folder):
        child = in_child(lambda: os._exit(len(os.read(awake, 1))))
    put(folder, NEW, OLD)
    os.write(wake, b"!")
    assert status(child) == 1 and ours(folder) == NEW


def test_a_reader_waits_while_files_are_moved(folder):
    (began, begin), (told, tell) = os.pipe(), os.pipe()
    rename, lock, paused = os.rename, replacing.fcntl.flock, []

    def slow(source, target):
        if "new" in Path(source).parts and not paused:
            paused.append(os.write(begin, b"!"))
            os.read(told, 1)
        rename(source, target)

    def write():
        os.replace = slow
        put(folder, NEW, OLD)
        os._exit(0)

    def ask_and_wait(*lock_of):
        os.write(ask, b"!")
        lock(*lock_of)

    def read():
        os.close(tell)
        replacing.fcntl.flock = ask_and_wait
        finish_replacing(folder)
        os._exit(0 if ours(folder) == NEW else 1)

    writer = in_child(write)
    os.read(began, 1)
    asked, ask = os.pipe()
    reader = in_child(read)
    os.close(ask)
    assert os.read(asked, 1)  # nothing, if the reader ended without having asked for the lock
    assert os.waitpid(reader, os.WNOHANG) == (0, 0)
    os.write(tell, b"!")
    assert status(reader) == 0 and status(writer) == 0


def test_files_that_are_replaced_while_they_are_read_are_noticed(folder):
    with unchanged(folder, "config.json"):
        assert ours(folder) == OLD
    with pytest.raises(ValueError, match="folder was saved into while it was read; load it again"):
        with unchanged(folder, "config.json"):
            put(folder, NEW, OLD)
    with pytest.raises(ValueError, match="was saved into") as error:
        with unchanged(folder, "config.json"):
            (folder / "config.json").unlink()
            raise FileNotFoundError("a file that was there before")
    assert isinstance(error.value.__context__, FileNotFoundError)


def test_what_is_not_complete_is_cleared(folder):
    put_plainly(folder, {".minidream-save-12345678/new/one": "half"})
    finish_replacing(folder)
    assert clear(folder) == (set(), []) and ours(folder) == OLD
    others = {".minidream-save-notes": "mine", ".minidream-save-1234567/new/one": "mine"}
    put_plainly(folder, others)
    put(folder, NEW, OLD)
    assert ours(folder) == NEW | others, "the names of hidden folders are longer"
