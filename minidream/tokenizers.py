"""Text to token ids and back: a token per word for the toy, sentencepiece for the full weights."""

import difflib
import json
import re
from dataclasses import astuple, dataclass
from pathlib import Path

import sentencepiece

# The official names. <image> and <dream> are placeholders in conversation data and never reach the
# model.
BASIC_TOKENS = ("[PAD]", "<s>", "</s>", "<unk>")
ADDED_TOKENS = (
    *("<image>", "<im_patch>", "<im_start>", "<im_end>"),
    *("<dream>", "<dream_start>", "<dream_end>"),
)
SPECIAL_TOKENS = BASIC_TOKENS + ADDED_TOKENS
# How text spells a special token: with any number of backslashes after its bracket.
SPELLED = re.compile(
    "|".join(rf"{re.escape(token[0])}\\*{re.escape(token[1:])}" for token in SPECIAL_TOKENS)
)


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the special tokens; every checkpoint has its own."""

    bos: int
    eos: int
    pad: int
    im_patch: int
    im_start: int
    im_end: int
    dream_start: int
    dream_end: int
    image: int
    dream: int

    @classmethod
    def from_ids(cls, ids: dict[str, int]) -> "SpecialTokens":
        """From {token: id}; KeyError names a token that is missing."""
        added = {token.strip("<>"): ids[token] for token in ADDED_TOKENS}
        return cls(bos=ids["<s>"], eos=ids["</s>"], pad=ids["[PAD]"], **added)

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids."""
        return astuple(self)

    @property
    def never_sampled(self) -> tuple[int, ...]:
        """Ids that were never training targets and are therefore banned when sampling.

        These are all ids above but those of `</s>` and `<dream_start>`.
        """
        return tuple(id for id in self.ids if id not in (self.eos, self.dream_start))


def refuse_special(text: str) -> None:
    """ValueError if text holds a special token: user text must never become a control token."""
    held = [token for token in SPECIAL_TOKENS if token in text]
    if held:
        raise ValueError(
            f"text may not hold the special token {held[0]!r}: pictures go into a document as "
            "images, and the model itself decides where to dream. (A backslash after its bracket, "
            f"{escape_special(held[0])}, makes it ordinary text.) The text was {text!r}"
        )


def escape_special(text: str) -> str:
    r"""Text as it is, but with a backslash more in all that spells a special token: `<\s>`.

    Sampled pieces of words may happen to spell a special token. They are text nevertheless: escaped
    they can be part of a document, and `encode` makes the same ordinary pieces of them again. What
    has backslashes already gets one more, so that `unescape_special` restores every text.
    """
    return SPELLED.sub(lambda found: f"{found[0][0]}\\{found[0][1:]}", text)


def unescape_special(text: str) -> str:
    """The inverse of `escape_special`; ValueError if text holds a special token unescaped."""
    refuse_special(text)
    return SPELLED.sub(lambda found: f"{found[0][0]}{found[0][2:]}", text)


class ToyTokenizer:
    """One token per word or punctuation mark; case is ignored.

    The ids are 0 [PAD], 1 <s>, 2 </s>, 3 <unk>, then the official added tokens, then the words.

    Args:
        words: the vocabulary, without special tokens.

    Raises:
        ValueError: if two words are equal, or a word is a special token, or is none that `encode`
            finds in a text, such as "Red" or "a b".
    """

    pad, bos, eos, unk = 0, 1, 2, 3

    def __init__(self, words: list[str]):
        self.words = list(words)
        self.names = [*SPECIAL_TOKENS, *self.words]
        self.ids = {name: index for index, name in enumerate(self.names)}
        if len(self.ids) != len(self.names):
            raise ValueError(
                "the words of a tokenizer must differ from one another and from the special tokens"
            )
        if never_found := [word for word in self.words if self.split(word) != [word]]:
            raise ValueError(
                f"{never_found[0]!r} is no word of a tokenizer: a word is lower-case letters, "
                "digits and apostrophes, or one other character"
            )
        self.special = SpecialTokens.from_ids(self.ids)

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def split(text: str) -> list[str]:
        """The words and punctuation marks of a text, in lower case."""
        return re.findall(r"[a-z0-9']+|[^\sa-z0-9']", text.lower())

    def encode(self, text: str) -> list[int]:
        """Ids of the words, without <s> and </s>.

        Raises:
            ValueError: if the text holds a special token, or a word that is not in the vocabulary
                (the message names the word and the nearest known ones).
        """
        pieces = self.split(unescape_special(text))
        for piece in pieces:
            if piece not in self.ids:
                near = difflib.get_close_matches(piece, self.words, n=3, cutoff=0.0)
                raise ValueError(
                    f"the toy does not know the word {piece!r}; the nearest that it knows: "
                    f"{', '.join(near)}"
                )
        return [self.ids[piece] for piece in pieces]

    def decode(self, ids: list[int]) -> str:
        """The text of ids: special tokens left out, punctuation joined to the word before it."""
        words = [self.names[token] for token in ids]
        text = " ".join(word for word in words if word not in SPECIAL_TOKENS)
        return re.sub(r" ([.,:?!])", r"\1", text)

    def save(self, folder: Path) -> None:
        """Writes `words.json`."""
        path = Path(folder).expanduser() / "words.json"
        path.write_text(json.dumps(self.words) + "\n", encoding="utf-8")

    def label(self, token: int) -> str:
        """How a token is written in figures."""
        return self.names[token]


class LlamaTokenizer:
    """The official slow LLaMA tokenizer (`legacy`): sentencepiece, after a space is prepended.

    Args:
        model: the path of `tokenizer.model`, or its content.
        added: {token: id} of the tokens beyond it, as in `added_tokens.json`.
        bos, eos, unk: ids, from the checkpoint's config.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        added: dict[str, int],
        bos: int = 1,
        eos: int = 2,
        unk: int = 0,
    ):
        content = model if isinstance(model, bytes) else Path(model).expanduser().read_bytes()
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=content)
        self.added = dict(added)
        self.bos, self.eos, self.unk, self.pad = bos, eos, unk, self.added["[PAD]"]
        self.names = {token: name for name, token in self.added.items()}
        basic = {"<s>": bos, "</s>": eos, "<unk>": unk}
        self.special = SpecialTokens.from_ids({**basic, **self.added})

    def __len__(self) -> int:
        return max(self.pieces.vocab_size(), max(self.names) + 1)

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text, without <s> and </s>; errors as `unescape_special`.

        Spelled with a backslash (see `escape_special`), a special token is ordinary text.
        """
        return self.pieces.encode(unescape_special(text))

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens and ids without a piece left out.

        Pieces that spell a special token are escaped, so that `encode` takes the text.
        """
        hidden, pieces = {*self.names, self.bos, self.eos, self.unk}, self.pieces.vocab_size()
        shown = [token for token in ids if token < pieces and token not in hidden]
        return escape_special(self.pieces.decode(shown))

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.model` and the JSON files that transformers reads beside it."""
        by_id = sorted(self.added, key=self.added.get)
        roles = {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "[PAD]",
            "additional_special_tokens": [token for token in by_id if token != "[PAD]"],
        }
        tokens = {"<s>": self.bos, "</s>": self.eos, "<unk>": self.unk, **self.added}
        plain = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
        plain["special"] = True
        decoder = {
            str(id): {"content": token} | plain
            for token, id in sorted(tokens.items(), key=lambda pair: pair[1])
        }
        settings = roles | {
            "tokenizer_class": "LlamaTokenizer",
            "legacy": True,
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "padding_side": "right",
            "added_tokens_decoder": decoder,
        }
        folder = Path(folder).expanduser()
        (folder / "tokenizer.model").write_bytes(self.pieces.serialized_model_proto())
        files = {
            "added_tokens": self.added,
            "special_tokens_map": roles,
            "tokenizer_config": settings,
        }
        for name, content in files.items():
            path = folder / f"{name}.json"
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def label(self, token: int) -> str:
        """How a token is written in figures: without the mark for the start of a word."""
        if token in self.names:
            return self.names[token]
        return self.pieces.id_to_piece(token).replace("\u2581", "") or "\u2423"
