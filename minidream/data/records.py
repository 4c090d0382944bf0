"""Lists of records in files: JSON lines, a JSON array, CSV rows.

Before the first record is used, all files are read once, so that a damaged one is found then. What
is kept of a record is where it begins and ends, 16 bytes; it is read again when it is its turn.
"""

import csv
import io
import json
import mmap
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..documents import Document
from .pictures import as_path, is_within
from .reading import Reading, Share, Unusable

LONGEST = 2**26  # bytes of a record, 64 MiB: what is longer is a file without line ends
BOM = b"\xef\xbb\xbf"  # some programs put this mark of UTF-8 in front of a file
BLANK = b" \t\r\n"
# In JSON, brackets count unless they are in a string. `++` and `*+` never give back what they took.
# A string without an end reaches to that of the file: searched again from each quote in it, a file
# of quotes would take for ever.
STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
# A record of a file: (line on which it begins, first byte, byte after its last, what it holds).
Piece = tuple[int, int, int, Any]


class Records:
    """The records of some files, which are read one at a time, in any order.

    Args:
        files: in the order in which their records are numbered.
        pieces: finds the records of a file.
        parse: reads one again from its bytes.
        keys: what a record should have.

    Raises:
        ValueError: for a damaged file (its line), files without records, or records of which none
            has all keys (what the first one has).
    """

    def __init__(
        self,
        files: list[Path],
        pieces: Callable[[Path], Iterator[Piece]],
        parse: Callable[[bytes], Any],
        keys: tuple[str, ...],
    ):
        self.files, self.parse = files, parse
        self.firsts: list[int] = []  # for each file, the number of its first record
        self.begins, self.ends = array("Q"), array("Q")
        usable, seen = False, None
        for file in files:
            self.firsts.append(len(self))
            for _, begin, end, record in pieces(file):
                self.begins.append(begin)
                self.ends.append(end)
                seen = record if seen is None else seen
                usable = usable or (isinstance(record, dict) and record.keys() >= set(keys))
        names = ", ".join(file.name for file in files[:3]) + ", ..." * (len(files) > 3)
        if not len(self):
            raise ValueError(f"there are no records in {names} (in {files[0].parent})")
        if not usable:
            found = f"has {list(seen)}" if isinstance(seen, dict) else f"is {seen!r:.80}"
            raise ValueError(
                f"no record of {names} (in {files[0].parent}) has the fields {list(keys)}; the "
                f"first one {found}"
            )

    def __len__(self) -> int:
        return len(self.begins)

    def place(self, number: int) -> tuple[Path, int]:
        """The file of a record, and its number in that file, both counted from 0."""
        file = bisect_right(self.firsts, number) - 1
        return self.files[file], number - self.firsts[file]

    def name(self, number: int) -> str:
        """How a record is called when it is skipped; people count from 1."""
        file, index = self.place(number)
        return f"{file.name}, record {index + 1}"

    def __getitem__(self, number: int) -> dict:
        """A record, read from its file; Unusable if it is no object."""
        file, _ = self.place(number)
        with file.open("rb") as stream:
            stream.seek(self.begins[number])
            data = stream.read(self.ends[number] - self.begins[number])
        try:
            record = self.parse(data)
        except (ValueError, RecursionError) as error:
            raise RuntimeError(f"{file} was changed while it was being read: {error}") from error
        if not isinstance(record, dict):
            raise Unusable("a record is no object with fields", record)
        return record

    def reading(self, document: Callable[[dict], Document], share: Share) -> Reading:
        """The records of a process as documents, shuffled.

        Args:
            document: makes one of a record, or raises Unusable.
            share: which records, and in which order.
        """

        def made(number: int) -> Document:
            return document(self[number])

        # Of a tensor, a loop would make a list of tensors first.
        numbers = map(int, share.order(len(self)).numpy())
        records = ((self.name(number), partial(made, number)) for number in numbers)
        return Reading(records, share.start)


def damaged(file: Path, line: int, error) -> ValueError:
    """The error for a file that cannot be read from a line on."""
    return ValueError(f"{file} is damaged at line {line}: {error}")


def parse_json(file: Path, line: int, data: bytes) -> Any:
    """The value of JSON that begins on a line of a file; ValueError if it is damaged."""
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}; JSON was expected"
        raise damaged(file, line + error.lineno - 1, reason) from error
    except (ValueError, RecursionError) as error:  # other encodings, too many digits or brackets
        raise damaged(file, line, f"{error}; JSON was expected") from error


def lines_of(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; ValueError for one that is too long to be a record."""
    line = 0
    while data := file.readline(LONGEST + 1):
        line += 1
        if len(data) > LONGEST:
            raise damaged(path, line, f"a line has more than {LONGEST:,} bytes")
        yield data


# --------------------------------------------------------------------------------------------------
# JSON lines


def json_lines(path: Path) -> Iterator[Piece]:
    """The records of a file with a JSON value in each line; blank lines are none."""
    begin = 0
    with path.open("rb") as file:
        for line, data in enumerate(lines_of(path, file), 1):
            end = begin + len(data)
            if data.removeprefix(BOM).strip(BLANK):
                yield line, begin, end, parse_json(path, line, data.rstrip(BLANK))
            begin = end


def first_json_line(path: Path) -> Any:
    """The first record of JSON lines, to see what kind it is; None without any."""
    return next((record for *_, record in json_lines(path)), None)


def json_line_records(files: list[Path], keys: tuple[str, ...]) -> Records:
    """The records of JSON lines; arguments and errors as `Records`."""
    return Records(files, json_lines, json.loads, keys)


# --------------------------------------------------------------------------------------------------
# A JSON array


def json_elements(path: Path) -> Iterator[Piece]:
    """The elements of a file that is one JSON array of objects, which is never in memory whole."""
    if not path.stat().st_size:  # nothing to map
        raise damaged(path, 1, "the file is empty; a JSON array was expected")
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = len(BOM) if data[: len(BOM)] == BOM else 0
    depth = begin = 0
    line, counted = 1, 0  # of the byte up to which line ends were counted
    after = start  # the byte after the last element or bracket
    separator = b"["

    def between(end: int) -> None:
        """Checks that only the separator is between what was last and a byte."""
        nonlocal line, counted
        if end - after > LONGEST or data[after:end].strip(BLANK) != separator:
            found = data[after : min(end, after + 80)].strip(BLANK)
            text = repr(found.decode("utf-8", "replace")[:40]) if found else "nothing"
            raise damaged(path, line, f"{text} was found where {separator.decode()!r} was expected")
        line, counted = line + data[counted:end].count(b"\n"), end

    for token in STRING_OR_BRACKET.finditer(data, start):
        at = token.start()
        kind = data[at : at + 1]
        if kind == b'"':
            continue
        if kind in b"[{":
            depth += 1
            if depth == 2:
                between(at)
                begin = at
        else:
            depth -= 1
            if depth == 1:
                end = at + 1
                if end - begin > LONGEST:
                    raise damaged(path, line, f"a record has more than {LONGEST:,} bytes")
                yield line, begin, end, parse_json(path, line, data[begin:end])
                line, counted = line + data[counted:end].count(b"\n"), end
                after, separator = end, b","
        if depth < 1:
            break
    separator = b"]" if separator == b"," else b"[]"
    between(len(data))


def json_array_records(path: Path, keys: tuple[str, ...]) -> Records:
    """The elements of a JSON array; arguments and errors as `Records`."""
    return Records([path], json_elements, json.loads, keys)


# --------------------------------------------------------------------------------------------------
# CSV


def csv_rows(path: Path) -> Iterator[Piece]:
    """The rows of a CSV file, the header first, each as a list; a quoted field may have line ends.

    Which bytes a row takes is known from the lines that the reader asked for to complete it.
    """
    taken = []
    begin = 0

    def decoded(file: BinaryIO) -> Iterator[str]:
        for data in lines_of(path, file):
            taken.append(data)
            yield data.removeprefix(BOM if not begin else b"").decode("utf-8")

    with path.open("rb") as file:
        rows = csv.reader(decoded(file), strict=True)
        line = 1
        while True:
            try:
                row = next(rows, None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise damaged(path, line, f"{error}; CSV in UTF-8 was expected") from error
            if row is None:
                break
            end = begin + sum(map(len, taken))
            if row:
                yield line, begin, end, row
            line, begin = line + len(taken), end
            taken.clear()


def csv_header(path: Path) -> list[str]:
    """The names of the columns of a CSV file; ValueError for an empty one."""
    for *_, row in csv_rows(path):
        return row
    raise ValueError(f"{path} is empty; a line with the names of the columns was expected")


def csv_records(path: Path, keys: tuple[str, ...]) -> Records:
    """The rows of a CSV file as dicts; arguments and errors as `Records`.

    Raises:
        ValueError: also if a column is missing, or a row has more fields than there are columns
            (both numbers).
    """
    header = csv_header(path)
    if missing := [key for key in keys if key not in header]:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {header}")

    def pieces(path: Path) -> Iterator[Piece]:
        rows = csv_rows(path)
        next(rows)
        for line, begin, end, row in rows:
            if len(row) > len(header):
                raise damaged(path, line, f"{len(row)} fields in {len(header)} columns")
            yield line, begin, end, dict(zip(header, row))

    def parse(data: bytes) -> dict:
        lines = (line.decode("utf-8") for line in io.BytesIO(data))
        return dict(zip(header, next(csv.reader(lines, strict=True))))

    return Records([path], pieces, parse, keys)


# --------------------------------------------------------------------------------------------------
# Files in a folder


def folder_of(path) -> tuple[Path, Path]:
    """The path that a user gave, and the folder of its data, which is resolved.

    Raises:
        TypeError: if it is no path.
        FileNotFoundError: if nothing is there.
    """
    path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: a folder of data, or a file in it, is expected"
        )
    return path, (path if path.is_dir() else path.parent).resolve()


def files_in(path: Path, suffix: str) -> list[Path]:
    """The files of a folder with a suffix, sorted; a file with the suffix is its own only one.

    Raises:
        ValueError: for a link that leads out of the folder.
    """
    if not path.is_dir():
        return [path] if path.suffix == suffix else []
    with os.scandir(path) as entries:  # not a list of them: pictures may lie there, too
        names = sorted(entry.name for entry in entries if entry.name.endswith(suffix))
    return [path / name for name in names if not name.startswith(".") and is_inside(path, name)]


def is_inside(folder: Path, name: str) -> bool:
    """Whether a file is there; ValueError if it is a link that leads out of the folder."""
    path = folder / name
    if path.is_file() and not is_within(str(folder.resolve()), str(path)):
        raise ValueError(f"{path} is not read: it leads out of {folder}")
    return path.is_file()
