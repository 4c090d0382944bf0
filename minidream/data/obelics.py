"""OBELICS: web documents as two parallel lists, of texts and of pictures.

A document is a line of a JSON Lines file. `texts` and `images` have the same length, and at each
position one of them is null. A picture is a URL, or the name of a file. (Laurençon et al., OBELICS,
2023, arXiv 2306.16527, section 3; dataset card of HuggingFaceM4/OBELICS, "Data Fields".)
"""

from pathlib import Path

from .interleaved import first_has, joined, read_lines
from .pictures import check_count, picture
from .reading import Reading, Share, Unusable, field_of

FIELDS = ("texts", "images")


def recognises(path: Path) -> bool:
    """Whether a folder or a file looks like this format, by its first record."""
    return first_has(path, FIELDS)


def items_of(record: dict, root: Path) -> list:
    """Text, and functions that open pictures, in the order in which they are read."""
    texts, images = (field_of(record, field, list) for field in FIELDS)
    if len(texts) != len(images):
        raise Unusable("texts and images differ in length", f"{len(texts)} and {len(images)}")
    check_count(sum(image is not None for image in images))
    items = []
    for position, (text, image) in enumerate(zip(texts, images)):
        if (text is None) == (image is None):
            raise Unusable("a position has both a text and a picture, or neither", position)
        if image is not None:
            items.append(picture(root, image))
        elif isinstance(text, str):
            items += joined([text.strip()])
        else:
            raise Unusable("a text is no text", text)
    return items


def read(path, seed: int = 0, start: int = 0, process: int = 0, processes: int = 1) -> Reading:
    """Documents as `interleaved.read_lines` says; `picture` says where those of URLs lie.

    Args:
        path: a folder with .jsonl files, or one of them.
        seed, start, process, processes: as `Share`.
    """
    return read_lines(path, FIELDS, items_of, Share(seed, start, process, processes))
