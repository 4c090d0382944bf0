"""LLaVA's conversations: turns of a person and of the model about a picture.

The file is a JSON list of records `{"id", "image", "conversations"}`. The turns are `{"from":
"human" or "gpt", "value"}`, and `<image>` in a person's turn is where the picture goes. (Liu et
al., Visual Instruction Tuning, 2023, arXiv 2304.08485, section 3; github.com/haotian-liu/LLaVA,
"Finetune LLaVA on Custom Datasets".) `image` may be missing, or a list, one for each `<image>`.
"""

import re
from pathlib import Path

from .dialogues import Dialogue
from .pictures import check_count, picture
from .reading import Reading, Share, Unusable, field_of, opened, text_of
from .records import BLANK, BOM, files_in, folder_of, json_array_records

FIELDS = ("conversations",)
PLACEHOLDER = "<image>"
SPEAKERS = ("human", "gpt")  # in turns
GLANCE = 2**16  # bytes of a file that tell whether it may be one


def recognises(path: Path) -> bool:
    """Whether a folder or a file looks like this format."""
    return bool(conversations(path))


def conversations(path: Path) -> list[Path]:
    """The JSON files of a folder that begin like conversations, or a file itself if it does."""
    return [file for file in files_in(path, ".json") if begins_like_one(file)]


def begins_like_one(file: Path) -> bool:
    """Whether a file begins with a list, and mentions conversations in its first records."""
    with file.open("rb") as stream:
        start = stream.read(GLANCE).removeprefix(BOM).lstrip(BLANK)
    return start.startswith(b"[") and b'"conversations"' in start


def turn_of(index: int, turn) -> str:
    """What is said in a turn, the index of which says who speaks."""
    if not isinstance(turn, dict):
        raise Unusable("a turn is no object with fields", turn)
    speaker = field_of(turn, "from", str)
    if speaker != SPEAKERS[index % 2]:
        raise Unusable("turns are not of human and gpt, one after the other", f"turn {index + 1}")
    return text_of(turn, "value")


def names_of(record: dict) -> list:
    """The pictures of a record."""
    image = record.get("image")
    if image is None:
        return []
    return image if isinstance(image, list) else [image]


def items_of(record: dict, root: Path) -> tuple[list, list[int]]:
    """Text, and functions that open pictures; and which of these items are replies."""
    turns = field_of(record, "conversations", list)
    if not turns or len(turns) % 2:
        raise Unusable("the last turn is not a reply of gpt", f"{len(turns)} turns")
    said, names = [turn_of(*place) for place in enumerate(turns)], names_of(record)
    mentioned = sum(question.count(PLACEHOLDER) for question in said[::2])
    if mentioned != len(names):
        raise Unusable(
            f"{PLACEHOLDER} does not occur once for each picture", f"{mentioned} for {len(names)}"
        )
    if names:
        check_count(len(names))
    items, replies, waiting = [], [], iter(names)
    for question, reply in zip(said[::2], said[1::2]):
        for part in re.split(f"({PLACEHOLDER})", question):
            if part == PLACEHOLDER:
                items.append(picture(root, next(waiting)))
            elif part.strip():
                items.append(part.strip())
        replies.append(len(items))
        items.append(reply)
    return items, replies


def read(path, seed: int = 0, start: int = 0, process: int = 0, processes: int = 1) -> Reading:
    """Dialogues, all shuffled: documents in which pictures are read and replies are learned.

    Args:
        path: the JSON file, or the folder with it, if it is the only one there. Pictures are in its
            folder or in the folder `images` there.
        seed, start, process, processes: as `Share`.

    Raises:
        FileNotFoundError: if the folder has no such file.
        TypeError, ValueError: as `Share` and `Records`; or for several such files.
    """
    share = Share(seed, start, process, processes)
    path, root = folder_of(path)
    files = conversations(path) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"{path} has no .json file with a list of conversations")
    if len(files) > 1:
        raise ValueError(f"{path} has {len(files)} files of conversations: which one is meant?")

    def document(record: dict) -> Dialogue:
        items, replies = items_of(record, root)
        return Dialogue(opened(items), replies)

    return json_array_records(files[0], FIELDS).reading(document, share)
