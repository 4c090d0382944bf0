"""WebDataset: tar files (shards) in which files with the same base name make a sample.

The base name reaches up to the first dot of the file's name, and members of a sample lie one after
another. A sample here has one picture (`.jpg`, `.jpeg`, `.png` or `.webp`) and its caption: a
`.txt`, or a `.json` object with the field `text` or `caption`. Other members are passed over.
(github.com/webdataset/webdataset, "The WebDataset Format"; img2dataset writes it so.)

The shards are read in a shuffled order, as streams, and the samples are shuffled within windows.
Memory holds the files of one window.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from ..documents import Document
from .pictures import decode, leaves
from .reading import Reading, Record, Share, Unusable, opened, text_of
from .records import files_in, folder_of

PICTURES = ("jpg", "jpeg", "png", "webp")
CAPTIONS = ("txt", "json")
FIELDS = ("text", "caption")  # of a .json, in the order in which they are looked for
WINDOW = 256  # samples that are shuffled among one another ...
WINDOW_BYTES = 2**28  # ... or fewer, once their files have more than 256 MiB
LARGEST = 2**26  # bytes of a member, 64 MiB
# What tarfile raises for files that are not as they should be.
DAMAGED = (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError)


def recognises(path: Path) -> bool:
    """Whether a folder or a file looks like this format."""
    return bool(files_in(path, ".tar"))


# --------------------------------------------------------------------------------------------------
# From members to samples


@dataclass
class Sample:
    """Members with the same base name.

    name: the shard and the base name.
    sizes: bytes of the files by extension, of those that a document needs.
    files: their contents, unless nobody needs them.
    fault: why the sample cannot be used, if this was seen already, as `Unusable` takes it. (Not an
        exception: where it was raised, it would keep alive.)
    """

    name: str
    sizes: dict[str, int] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    fault: tuple[str, str] | None = None

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str, kept: bool) -> None:
        """Adds a member; its content is read only if it is kept."""
        self.fault = self.fault or fault_of(member)
        if kind in self.sizes or (kind in PICTURES and self.sizes.keys() & set(PICTURES)):
            self.fault = self.fault or ("a sample has two of a kind", member.name)
        if self.fault:
            self.files.clear()
        elif kind in PICTURES + CAPTIONS:
            self.sizes[kind] = member.size
            if kept:
                self.files[kind] = tar.extractfile(member).read()

    def document(self) -> Document:
        """The caption, and the picture to be painted from it; Unusable if something is wrong."""
        if self.fault:
            raise Unusable(*self.fault)
        kinds = [kind for kind in PICTURES if kind in self.files]
        if not kinds:
            raise Unusable("a sample has no picture", f"its files are {list(self.files)}")
        image = partial(decode, io.BytesIO(self.files[kinds[0]]), kinds[0])
        return Document(opened([self.caption(), image]), targets=[0])

    def caption(self) -> str:
        """The text of the sample."""
        kind = "txt" if "txt" in self.files else "json"
        try:
            text = self.files.get(kind, b"{}").decode("utf-8")
            content = {"text": text} if kind == "txt" else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Unusable("a caption is damaged", f".{kind}: {error}") from error
        found = [name for name in FIELDS if isinstance(content, dict) and name in content]
        if not found:
            raise Unusable("a sample has no caption", f"its files are {list(self.files)}")
        return text_of(content, found[0])


def fault_of(member: tarfile.TarInfo) -> tuple[str, str] | None:
    """Why a member of a tar file is not read, if it is not."""
    if leaves(member.name):
        return "the name of a member leaves the folder", member.name
    if not member.isreg() or member.issparse():  # a sparse file can be larger than any disk
        return "a member is no ordinary file, but a link or a device", member.name
    if member.size > LARGEST:
        return f"a member has more than {LARGEST:,} bytes", member.name
    return None


def split_name(name: str) -> tuple[str, str]:
    """Base name and extension of a member; both are empty for a file that is none of a sample."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    base, dot, kind = file.partition(".")
    return (f"{folder}{slash}{base}", kind.lower()) if base and dot else ("", "")


def members(shard: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a shard, one by one; raises one of `DAMAGED` where it is damaged."""
    with tarfile.open(shard, "r|", encoding="utf-8") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # tarfile remembers them all
            if member.size < 0:  # tarfile would go backwards, for ever
                raise tarfile.ReadError(f"{member.name} has the size {member.size}")
            yield tar, member
        end = tar.offset
    # tarfile takes anything that is no header for the end, which is a block of zeros, or nothing.
    with shard.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"byte {end} should begin a member, and does not")


def samples(shards: list[Path], kept: Callable[[int], bool]) -> Iterator[Sample]:
    """The samples of shards, in the order in which they lie there.

    Args:
        shards: one after the other.
        kept: whether the files of a sample are needed, by its number in this order.

    Yields:
        The samples. What cannot be read of a damaged shard is one sample, with a fault.
    """
    number = -1
    for shard in shards:
        sample, current = None, None
        try:
            for tar, member in members(shard):
                base, kind = split_name(member.name)
                if member.isdir() or not (base or fault_of(member)):
                    continue
                base = base or member.name
                if base != current:
                    if sample:
                        yield sample
                    number += 1
                    sample, current = Sample(f"{shard.name}, sample {base!r:.100}"), base
                sample.add(tar, member, kind, kept(number))
        except DAMAGED as error:
            if sample:
                yield sample
            number += 1
            sample = Sample(shard.name, fault=("the rest of a shard is damaged", str(error)))
        if sample:
            yield sample
    if number < 0:
        raise ValueError(f"there are no samples in {[str(shard) for shard in shards[:3]]}")


# --------------------------------------------------------------------------------------------------
# Order


def windows(stream: Iterable[Sample], share: Share) -> Iterator[list[Sample]]:
    """The samples of a process in lists of `WINDOW`, or fewer if their files are large.

    Where they end depends on sizes alone, and so is the same for every start.
    """
    window, size = [], 0
    for number, sample in enumerate(stream):
        if number % share.processes == share.process:
            window.append(sample)
            size += sum(sample.sizes.values())
        if len(window) == WINDOW or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def shuffled(
    stream: Iterable[Sample], share: Share, generator: torch.Generator
) -> Iterator[Record]:
    """The samples of a process from its start on, shuffled within windows."""
    passed = 0
    for window in windows(stream, share):
        for index in torch.randperm(len(window), generator=generator, device="cpu").tolist():
            sample, window[index] = window[index], None  # not kept longer than it is used
            if passed >= share.start:
                yield sample.name, sample.document
            passed += 1
    share.check_start(passed)


def shards_of(path) -> list[Path]:
    """The tar files that a user gave, each of which begins like one; errors as `read`."""
    if isinstance(path, (list, tuple)):
        shards = [folder_of(shard)[0] for shard in path]
    else:
        path, _ = folder_of(path)
        shards = files_in(path, ".tar") if path.is_dir() else [path]
    if not shards:
        raise FileNotFoundError(f"{path} has no .tar file")
    for shard in shards:
        try:
            with tarfile.open(shard, "r|", encoding="utf-8"):
                pass  # it has read the first member
        except DAMAGED as error:
            raise ValueError(f"{shard} is no tar file: {error}") from error
    return shards


def read(path, seed: int = 0, start: int = 0, process: int = 0, processes: int = 1) -> Reading:
    """Documents of a caption and the picture to be painted from it.

    The order of the shards is shuffled. Of the samples in this order, process i of n takes every
    n-th, and shuffles each `WINDOW` of its samples. For a picture to be described, turn one round:
    `Document(document.items[::-1], targets=[])`.

    Args:
        path: a folder with .tar files, one of them, or a list of them.
        seed, start, process, processes: as `Share`.

    Raises:
        FileNotFoundError: without a shard.
        TypeError, ValueError: as `Share`; for a shard that is no tar file, and, with the first
            record, if there are no samples, or fewer than `start`.
    """
    share = Share(seed, start, process, processes)
    shards, generator = shards_of(path), share.generator()
    order = torch.randperm(len(shards), generator=generator, device="cpu").tolist()

    def kept(number: int) -> bool:
        mine = number % share.processes == share.process
        # Of windows that end before the start, nothing is needed but how many samples they have.
        return mine and number // share.processes > share.start - WINDOW

    stream = samples([shards[index] for index in order], kept)
    return Reading(shuffled(stream, share, generator), share.start)
