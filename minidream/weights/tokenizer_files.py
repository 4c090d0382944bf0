"""Reading the tokenizer of a checkpoint: its pieces, and the ids of its special tokens.

The official code reads `tokenizer.model` with sentencepiece. transformers 5 writes `tokenizer.json`
alone, which it makes from the pieces of `tokenizer.model`. As nothing is lost on the way, the
sentencepiece model is put together again here, and a text gets the same ids as from the official
tokenizer. (transformers 5 itself gives other ids to a text that begins with a space.)
"""

import re
import struct
from pathlib import Path

from ..tokenizers import SPECIAL_TOKENS, LlamaTokenizer, ToyTokenizer
from .files import check_file, read_json
from .variants import (
    LLAMA_7B,
    TOKENIZER,
    TOKENIZER_JSON,
    WIDTH,
    check_fields,
    read_config,
    refused,
    section,
)

BASIC = ("<s>", "</s>", "<unk>")  # special tokens that are pieces, too
# Types of pieces in sentencepiece's format.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
# The two ways in which transformers says that a space is put in front and written as "\u2581".
SPACES = (
    {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        }
    },
    {
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": "always",
            "split": False,
        }
    },
)


def read_tokenizer(folder: Path, config: dict) -> ToyTokenizer | LlamaTokenizer:
    """The tokenizer of a checkpoint.

    Raises:
        ValueError: if its files disagree about the id of a special token, if an id is among those
            of the pieces or outside the vocabulary, or if a file is damaged or of another kind of
            tokenizer.
        FileNotFoundError: if there is none.
    """
    size = check_fields(folder / "config.json", LLAMA_7B | config, {"vocab_size": WIDTH})[
        "vocab_size"
    ]
    if (folder / "words.json").exists():
        tokenizer = read_words(folder / "words.json")
    else:
        ids, elsewhere = special_ids(folder / "config.json", config), ids_elsewhere(folder, config)
        tokenizer = read_llama(folder, ids)
        check_agreement(folder, ids, elsewhere)
    if len(tokenizer) > size:
        raise ValueError(
            f"{folder}: the tokenizer has ids up to {len(tokenizer) - 1}; config.json says a "
            f"vocabulary of {size}"
        )
    return tokenizer


def read_words(path: Path) -> ToyTokenizer:
    """The toy's tokenizer; errors as in `read_tokenizer`."""
    words = read_json(path, list)
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise ValueError(f"{path} is a list of words, and {wrong[0]!r} is none")
    try:
        return ToyTokenizer(words)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_llama(folder: Path, ids: dict[str, int]) -> LlamaTokenizer:
    """LLaMA's tokenizer, from the ids of its special tokens; errors as in `read_tokenizer`."""
    path, converted = folder / "tokenizer.model", folder / "tokenizer.json"
    if (folder / "tokenizer_config.json").exists():
        settings = folder / "tokenizer_config.json"
        check_fields(settings, read_config(settings), TOKENIZER)
    if converted.exists() and not (path.exists() or path.is_symlink()):
        path, model = converted, model_from_json(converted)
    else:
        check_file(path)
        model = path.read_bytes()
    added = {name: ids[name] for name in ids if name not in BASIC}
    try:
        tokenizer = LlamaTokenizer(model, added, *(ids[name] for name in BASIC))
    except RuntimeError as error:  # what sentencepiece raises
        raise ValueError(f"{path} holds no pieces of a tokenizer: {error}") from error
    basic = {name: (tokenizer.pieces.piece_to_id(name), ids[name]) for name in BASIC}
    if differ := {name: pair for name, pair in basic.items() if len(set(pair)) > 1}:
        raise ValueError(
            f"{folder}: {path.name} and special_tokens2ids_dict in config.json disagree about "
            f"{differ}"
        )
    pieces = tokenizer.pieces.vocab_size()
    if among := {token: index for token, index in added.items() if index < pieces}:
        raise ValueError(
            f"{folder}: the ids of {among} are among those of the {pieces} pieces of {path.name}"
        )
    if (first := min(added.values())) > pieces:
        raise ValueError(
            f"{path} has {pieces} pieces, and the ids of special tokens begin with {first}: it may "
            "be cut short"
        )
    return tokenizer


# --------------------------------------------------------------------------------------------------
# Ids of special tokens


def special_ids(path: Path, config: dict) -> dict[str, int]:
    """The ids of the special tokens, from `config.json`; ValueError if one is missing."""
    listed = section(path, config, "special_tokens2ids_dict")
    listed = listed | section(path, listed, "additional_special_tokens")
    ids = {name: index for name, index in listed.items() if isinstance(index, int)}
    if missing := [name for name in SPECIAL_TOKENS if name not in ids]:
        raise ValueError(f"{path}: special_tokens2ids_dict has no id for {', '.join(missing)}")
    return ids


def check_agreement(
    folder: Path, ids: dict[str, int], elsewhere: dict[str, dict[str, int]]
) -> None:
    """Checks that wherever an id of a special token is given, it is the same.

    Args:
        folder: of the checkpoint, for errors.
        ids: from `special_ids`.
        elsewhere: from `ids_elsewhere`.

    Raises:
        ValueError: naming both places, and {token: (id there, id in special_tokens2ids_dict)}.
    """
    for source, found in elsewhere.items():
        differ = {
            name: (index, ids.get(name)) for name, index in found.items() if ids.get(name) != index
        }
        if differ:
            raise ValueError(
                f"{folder}: {source} and special_tokens2ids_dict in config.json disagree about "
                f"{differ}"
            )


def ids_elsewhere(folder: Path, config: dict) -> dict[str, dict[str, int]]:
    """What else gives ids of special tokens: {source: {token: id}}; none of it has to be there."""
    found = {}
    for token, field in (("<s>", "bos_token_id"), ("</s>", "eos_token_id")):
        if field in config:
            found[f"{field} in config.json"] = {token: single_id(folder, field, config[field])}
    if (folder / "added_tokens.json").exists():
        found["added_tokens.json"] = read_config(folder / "added_tokens.json")
    if (path := folder / "tokenizer.json").exists():
        found[path.name] = special_of(added_tokens(path, read_config(path).get("added_tokens", [])))
    if (path := folder / "tokenizer_config.json").exists():
        decoder = section(path, read_config(path), "added_tokens_decoder")
        listed = [section(path, decoder, index) | {"id": index} for index in decoder]
        found[f"added_tokens_decoder in {path.name}"] = special_of(added_tokens(path, listed))
    return found


def single_id(folder: Path, field: str, value: int | list[int]) -> int:
    """An id that newer versions of transformers write as a list of one; ValueError for others."""
    ids = value if isinstance(value, list) else [value]
    if len(ids) != 1 or not isinstance(ids[0], int):
        raise ValueError(f"{folder / 'config.json'}: {field} is {value!r}; it is one id here")
    return ids[0]


def added_tokens(path: Path, listed: list) -> list[tuple[str, int, bool]]:
    """Tokens that are never split: (token, id, whether it is special); ValueError for others."""
    if not isinstance(listed, list):
        raise ValueError(f"{path}: added_tokens is {listed!r}, not a list")
    for token in listed:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise ValueError(f"{path}: added_tokens holds {token!r}, which is no token with its id")
    return [
        (token["content"], refused(path, int, token.get("id")), token.get("special") is True)
        for token in listed
    ]


def special_of(tokens: list[tuple[str, int, bool]]) -> dict[str, int]:
    """The ids of those added tokens that are special."""
    return {token: index for token, index, special in tokens if special}


# --------------------------------------------------------------------------------------------------
# From tokenizer.json to a sentencepiece model


def model_from_json(path: Path) -> bytes:
    """The sentencepiece model that `tokenizer.json` was made from, as the bytes of its file.

    Raises:
        ValueError: if the file is of another kind of tokenizer, in which a text would get other
            ids than here.
    """
    content = read_config(path)
    spaces = {name: content[name] for name in ("normalizer", "pre_tokenizer") if name in content}
    if spaces not in SPACES:
        raise ValueError(f"{path} is of another tokenizer than LLaMA's: its spaces are {spaces}")
    model = section(path, content, "model")
    check_fields(path, {"byte_fallback": False, "fuse_unk": False} | model, TOKENIZER_JSON)
    added = added_tokens(path, content.get("added_tokens", []))
    special = {token: is_special for token, _, is_special in added}
    vocabulary = section(path, model, "vocab")
    if "<unk>" not in vocabulary:
        raise ValueError(f"{path}: model.vocab does not assign an id to each piece and to <unk>")
    # Some versions list the tokens beyond the pieces in the vocabulary, too.
    beyond = set(special) & set(SPECIAL_TOKENS) - set(BASIC)
    pieces = refused(path, sorted, set(vocabulary) - beyond, key=vocabulary.get)
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError(f"{path}: the ids in model.vocab are not 0 to {len(pieces) - 1}")
    types = {piece: type_of(piece, special) for piece in pieces}
    types["<unk>"] = UNKNOWN
    normal = {piece for piece, kind in types.items() if kind == NORMAL}
    ranks = refused(path, ranks_of, model.get("merges", []), normal)
    # In sentencepiece, of two neighbours those are joined first whose union has the highest score.
    stored = [
        field(1, field(1, piece.encode()) + field(2, -float(ranks.get(piece, len(ranks) + index))))
        if types[piece] == NORMAL
        else field(1, field(1, piece.encode()) + field(2, 0.0) + field(3, types[piece]))
        for index, piece in enumerate(pieces)
    ]
    has_bytes = BYTE in types.values()
    # The model type is BPE (2). Text is not normalized: a space is put in front (3), all others are
    # kept (4) and written as "\u2581" (5).
    trainer = field(3, 2) + field(4, len(pieces)) + field(35, int(has_bytes))
    normalizer = field(1, b"identity") + field(3, 1) + field(4, 0) + field(5, 1)
    return b"".join(stored) + field(2, trainer) + field(3, normalizer)


def type_of(piece: str, special: dict[str, bool]) -> int:
    """The type of a piece; `special` says of each token that is never split whether it is special.

    A token that is not special but never split either is one that users defined.
    """
    if piece in special:
        return CONTROL if special[piece] else USER_DEFINED
    return BYTE if re.fullmatch("<0x[0-9A-F]{2}>", piece) else NORMAL


def ranks_of(merges: list, normal: set[str]) -> dict[str, int]:
    """In which order pieces are put together from two others: {piece: rank}.

    sentencepiece puts together whatever pair makes a piece, while `tokenizer.json` lists the pairs.
    Both do the same if all pairs that make a piece are listed, and those of one piece together.

    Raises:
        ValueError: if the list is not of this kind.
    """
    pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in merges]
    pairs = [pair for pair in pairs if {*pair, "".join(pair)} <= normal]
    possible = {
        (piece[:length], piece[length:])
        for piece in normal
        for length in range(1, len(piece))
        if piece[:length] in normal and piece[length:] in normal
    }
    joined = ["".join(pair) for pair in pairs]
    ranks = {piece: rank for rank, piece in enumerate(dict.fromkeys(joined))}
    together = sorted(joined, key=ranks.get) == joined
    if set(pairs) != possible or not together:
        raise ValueError("model.merges are not those that transformers makes for LLaMA")
    return ranks


def field(number: int, value: int | float | bytes) -> bytes:
    """One field of a message in the format of sentencepiece's files, Protocol Buffers."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """A whole number, 0 or above, in groups of seven bits, the lowest first."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
