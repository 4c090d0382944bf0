"""The user's own data: readers of common formats, each an iterator of Documents.

| file | format | what a record becomes |
|---|---|---|
| `imagefolder` | pictures, `metadata.csv` or `metadata.jsonl` | a caption, a picture to paint |
| `webdataset` | tar files of pictures and captions | the same |
| `llava` | a JSON list of conversations | a `Dialogue`: pictures are read, replies learned |
| `mmc4`, `obelics` | JSON lines of web documents | text, and pictures to paint after it |

Each file has `read(path, seed=0, start=0, process=0, processes=1)`, which returns a `Reading`, and
`recognises(path)`. `documents` takes the reader that recognises a folder. All of them promise:

- One pass, in an order that follows from the seed. Process i of n reads every n-th record.
- `start` records of the process are passed over and their pictures are not decoded. What follows is
  what a pass from the beginning gives from there on. `Reading.position` is where a pass is.
- One file is open at a time, and memory does not grow with the records, but for 24 bytes for each
  record of a list. Nothing is written or downloaded.
- What concerns the whole is an error before the first document. A record that cannot be used is
  skipped and counted in `Reading.skipped`, and a warning at the end of the pass says so.

Pictures lie in the folder of the data, or in the folder `images` in it. A path or a link that leads
out of the folder is not followed. `reading`, `records`, `pictures` and `interleaved` hold what
readers share. `python -m minidream.data.emoji FOLDER` writes a small data set to try.
"""

import os
from types import ModuleType

from . import imagefolder, llava, mmc4, obelics, webdataset
from .dialogues import Dialogue
from .reading import Reading, Skipped
from .records import folder_of

__all__ = ["Dialogue", "Reading", "Skipped", "documents", "format_of"]

READERS = (imagefolder, webdataset, llava, mmc4, obelics)


def documents(path, seed: int = 0, start: int = 0, process: int = 0, processes: int = 1) -> Reading:
    """The documents of a folder, by the reader that recognises it.

    Args:
        path: a folder, a file of metadata or records, or a list of tar files.
        seed: of the order; each pass over the data should have its own.
        start: how many records of this process are passed over.
        process, processes: process i of n reads every n-th record.

    Raises:
        FileNotFoundError: if nothing is there.
        TypeError, ValueError: for a seed, a start or a process that is not a whole number or out of
            range; for a folder of no format or of several; and as the reader's `read`.
    """
    return format_of(path).read(path, seed, start, process, processes)


def format_of(path) -> ModuleType:
    """The reader of a folder, a file or a list of tar files; errors as `documents`."""
    if isinstance(path, (list, tuple)):
        return webdataset
    path, _ = folder_of(path)
    found = [reader for reader in READERS if reader.recognises(path)]
    if len(found) == 1:
        return found[0]
    names = [reader.__name__.rpartition(".")[2] for reader in found]
    if found:
        raise ValueError(
            f"{path} looks like {' and '.join(names)}: use the reader that is meant, such as "
            f"minidream.data.{names[0]}.read, or put the data into folders of their own"
        )
    raise ValueError(
        f"{path} has no format that is known here. Found: {listed(path)}. Expected: metadata.csv "
        "or metadata.jsonl beside pictures, .tar files, a .json list of records with conversations,"
        " or .jsonl files of records with text_list and image_info (MMC4) or with texts and images "
        "(OBELICS)"
    )


def listed(path, most: int = 5) -> str:
    """Some names in a folder, for an error."""
    if not path.is_dir():
        return f"a file {path.name}"
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry, _ in zip(entries, range(most + 1)))
    return ", ".join(names[:most]) + ", ..." * (len(names) > most) or "nothing"
