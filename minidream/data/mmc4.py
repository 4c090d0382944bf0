"""MMC4: web documents, with each picture matched to one of their sentences.

A document is a line of a JSON Lines file: `text_list` has its sentences, and each entry of
`image_info` a picture, with `image_name`, `raw_url`, `matched_text_index` (its sentence) and
`matched_sim` (how well CLIP thinks they fit, not used here). (Zhu et al., Multimodal C4, 2023,
arXiv 2304.06939, section 2; github.com/allenai/mmc4. The shards there are zipped; unzip them.)
"""

from pathlib import Path

from ..images import as_integer
from .interleaved import first_has, joined, read_lines
from .pictures import check_count, picture
from .reading import Reading, Share, Unusable, field_of

FIELDS = ("text_list", "image_info")


def recognises(path: Path) -> bool:
    """Whether a folder or a file looks like this format, by its first record."""
    return first_has(path, FIELDS)


def items_of(record: dict, root: Path) -> list:
    """Text, and functions that open pictures, in the order in which they are read.

    Each picture follows the sentence that it is matched to, as in the official code of DreamLLM.
    Sentences without a picture between them are joined by a space.
    """
    sentences, pictures = (field_of(record, field, list) for field in FIELDS)
    check_count(len(pictures))
    after = [[] for _ in sentences]
    for info in pictures:
        if not isinstance(info, dict):
            raise Unusable("a picture is no object with fields", info)
        name = info.get("image_name") or info.get("raw_url")
        after[sentence_of(info, len(sentences))].append(picture(root, name))
    items, text = [], []
    for sentence, shown in zip(sentences, after):
        if not isinstance(sentence, str):
            raise Unusable("a sentence is no text", sentence)
        text.append(sentence.strip())
        if shown:
            items += [*joined(text), *shown]
            text = []
    return items + joined(text)


def sentence_of(info: dict, sentences: int) -> int:
    """The index of the sentence that a picture is matched to."""
    try:
        return as_integer("matched_text_index", info.get("matched_text_index"), 0, sentences - 1)
    except (TypeError, ValueError) as error:
        raise Unusable("a picture is matched to a sentence that does not exist", error) from error


def read(path, seed: int = 0, start: int = 0, process: int = 0, processes: int = 1) -> Reading:
    """Documents as `interleaved.read_lines` says; pictures lie there under their `image_name`.

    Args:
        path: a folder with shards, or one shard.
        seed, start, process, processes: as `Share`.
    """
    return read_lines(path, FIELDS, items_of, Share(seed, start, process, processes))
