"""Text to token ids and back: word by word for the toy, sentencepiece for the full weights."""

import difflib
import json
import re
from dataclasses import astuple, dataclass
from pathlib import Path

import sentencepiece


def refuse_special(text: str) -> None:
    """Raises ValueError if text holds a special token: what a user types must never become a control token."""
    held = [token for token in SPECIAL_TOKENS if token in text]
    if held:
        raise ValueError(
            f"text may not hold the special token {held[0]!r}: pictures go into a document as images, "
            f"and the model itself decides where to dream. The text was {text!r}"
        )


class ToyTokenizer:
    """One token per word or punctuation mark; lower case.

    Ids: 0 [PAD], 1 <s>, 2 </s>, 3 <unk>, then the official special tokens, then the words.
    """

    pad, bos, eos, unk = 0, 1, 2, 3

    def __init__(self, words: list[str]):
        self.words = list(words)
        names = [
            "[PAD]",
            "<s>",
            "</s>",
            "<unk>",
            *(token for token in SPECIAL_TOKENS if token not in ("[PAD]", "<s>", "</s>", "<unk>")),
        ]
        self.names = names + self.words
        self.ids = {name: number for number, name in enumerate(self.names)}
        if len(self.ids) != len(self.names):
            raise ValueError(
                "the words of a tokenizer must differ from one another and from the special tokens"
            )
        self.special = SpecialTokens.from_ids(self.ids)

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, text: str) -> list[int]:
        """Ids of the words, without <s> and </s>.

        Raises:
            ValueError: if the text holds a special token or a word that the toy never learned (named, with the nearest).
        """
        refuse_special(text)
        pieces = re.findall(r"[a-z0-9']+|[^\sa-z0-9']", text.lower())
        for piece in pieces:
            if piece not in self.ids:
                near = difflib.get_close_matches(piece, self.words, n=3, cutoff=0.0)
                raise ValueError(
                    f"the toy does not know the word {piece!r}; the nearest that it knows: {', '.join(near)}"
                )
        return [self.ids[piece] for piece in pieces]

    def decode(self, ids: list[int]) -> str:
        """The words of ids, special tokens left out, punctuation joined to the word before it."""
        words = [self.names[number] for number in ids]
        return re.sub(
            r" ([.,:?!])", r"\1", " ".join(word for word in words if word not in SPECIAL_TOKENS)
        )

    def save(self, folder: Path) -> None:
        """Writes `words.json`."""
        (Path(folder) / "words.json").write_text(json.dumps(self.words) + "\n")

    def label(self, number: int) -> str:
        """How one token is written, for plots."""
        return self.names[number]


class LlamaTokenizer:
    """The official slow LLaMA tokenizer (`legacy`): every piece of text gets a space in front of it, then sentencepiece.

    Args:
        model_file: `tokenizer.model`.
        added: {token: id} of the tokens beyond it, as in `added_tokens.json`.
        bos, eos, unk, pad: ids, from the checkpoint's config.
    """

    def __init__(
        self,
        model_file: str | Path,
        added: dict[str, int],
        bos: int = 1,
        eos: int = 2,
        unk: int = 0,
    ):
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
        self.added = dict(added)
        self.bos, self.eos, self.unk, self.pad = bos, eos, unk, self.added["[PAD]"]
        self.names = {number: token for token, number in self.added.items()}
        self.special = SpecialTokens.from_ids({"<s>": bos, "</s>": eos, "<unk>": unk, **self.added})

    def __len__(self) -> int:
        return max(self.pieces.vocab_size(), max(self.names) + 1)

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text, without <s> and </s>; ValueError if it holds a special token."""
        refuse_special(text)
        return self.pieces.encode(text)

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens left out."""
        return self.pieces.decode(
            [
                number
                for number in ids
                if number not in self.names and number not in (self.bos, self.eos, self.unk)
            ]
        )

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.model`, and beside it what transformers needs to read the same tokenizer from the folder."""
        roles = {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "[PAD]",
            "additional_special_tokens": [
                token for token in sorted(self.added, key=self.added.get) if token != "[PAD]"
            ],
        }
        tokens = {"<s>": self.bos, "</s>": self.eos, "<unk>": self.unk, **self.added}
        plain = {
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        settings = roles | {
            "tokenizer_class": "LlamaTokenizer",
            "legacy": True,
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "padding_side": "right",
            "added_tokens_decoder": {
                str(number): {"content": token} | plain
                for token, number in sorted(tokens.items(), key=lambda pair: pair[1])
            },
        }
        (Path(folder) / "tokenizer.model").write_bytes(self.pieces.serialized_model_proto())
        for name, content in (
            ("added_tokens", self.added),
            ("special_tokens_map", roles),
            ("tokenizer_config", settings),
        ):
            (Path(folder) / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")

    def label(self, number: int) -> str:
        """How one token is written, for plots: sentencepiece's mark of a word's beginning left out."""
        if number in self.names:
            return self.names[number]
        return self.pieces.id_to_piece(number).replace("\u2581", "") or "\u2423"


# The official names. <image> and <dream> are placeholders in conversation data and never reach the model.
SPECIAL_TOKENS = (
    "[PAD]",
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "<im_patch>",
    "<im_start>",
    "<im_end>",
    "<dream>",
    "<dream_start>",
    "<dream_end>",
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
        return cls(
            ids["<s>"],
            ids["</s>"],
            ids["[PAD]"],
            *(
                ids[f"<{name}>"]
                for name in (
                    "im_patch",
                    "im_start",
                    "im_end",
                    "dream_start",
                    "dream_end",
                    "image",
                    "dream",
                )
            ),
        )

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them."""
        return astuple(self)

    @property
    def never_sampled(self) -> tuple[int, ...]:
        """What was never a target in training and is therefore banned when sampling: all but </s> and <dream_start>."""
        return (
            self.bos,
            self.pad,
            self.im_patch,
            self.im_start,
            self.im_end,
            self.dream_end,
            self.image,
            self.dream,
        )
