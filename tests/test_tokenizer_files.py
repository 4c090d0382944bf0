"""Tokenizers of checkpoints that newer versions of transformers saved again.

`fixtures/transformers-5` was written by transformers 5.23, from the tokenizer of the tiny official
checkpoint: `LlamaTokenizer.from_pretrained(...).save_pretrained(...)`.
"""

import io
import json
import random
import re
import shutil
from pathlib import Path

import pytest
import sentencepiece

import minidream
from minidream.tokenizers import SPECIAL_TOKENS, LlamaTokenizer, ToyTokenizer
from minidream.weights.tokenizer_files import BASIC, model_from_json, read_tokenizer

FIXTURES = Path(__file__).parent / "fixtures"
OFFICIAL = FIXTURES / "tiny-a" / "checkpoint"
RESAVED = FIXTURES / "transformers-5"


@pytest.fixture
def copy(tmp_path) -> Path:
    """The tiny official checkpoint, with the tokenizer as transformers 5 saves it."""
    folder = Path(shutil.copytree(OFFICIAL, tmp_path / "copy"))
    for name in ("tokenizer.model", "added_tokens.json", "special_tokens_map.json"):
        (folder / name).unlink()
    for path in RESAVED.iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def official():
    return tokenizer_of(OFFICIAL)


def tokenizer_of(folder: Path):
    return read_tokenizer(folder, json.loads((folder / "config.json").read_bytes()))


def change(path: Path, edit) -> None:
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def texts(pieces: list[str], count: int = 1000) -> list[str]:
    """Random texts of characters and of pieces, with spaces in all places."""
    rng = random.Random(0)
    signs = ["the ", "picture", *"abcdeghilnorstuwASTD.,:'? ", " ", "\n", "\t", "\u00e9", "\u4e2d"]
    signs += ["\U0001f642", "\u200b", "\u2581", "<0x0A>", *rng.sample(pieces, 20)]
    return ["".join(rng.choices(signs, k=rng.randrange(40))) for _ in range(count)]


def pieces_of(processor) -> list[str]:
    return [processor.id_to_piece(index) for index in range(processor.vocab_size())]


# --------------------------------------------------------------------------------------------------
# What is read


def test_tokenizer_json_gives_the_ids_of_the_official_tokenizer(copy, official):
    """The official tokenizer is compared with transformers 4.35 in test_official_tokenizer."""
    tokenizer = tokenizer_of(copy)
    assert tokenizer.special == official.special and len(tokenizer) == len(official)
    assert pieces_of(tokenizer.pieces) == pieces_of(official.pieces)
    for text in texts(pieces_of(official.pieces)):
        text = re.sub("|".join(map(re.escape, SPECIAL_TOKENS)), "", text)
        ids = official.encode(text)
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == official.decode(ids)


def test_a_checkpoint_with_tokenizer_json_alone_is_loaded_and_saved_officially(copy, tmp_path):
    options = dict(device="cpu", component_configs=FIXTURES / "tiny-a" / "component_configs")
    model = minidream.load(copy, **options)
    ids = [81, 3, 81, 31, 15]
    assert model.tokenizer.encode(" a  cat") == ids
    minidream.save(model, tmp_path / "saved")
    again = tokenizer_of(tmp_path / "saved")
    assert again.encode(" a  cat") == ids and again.special == tokenizer_of(copy).special


def test_a_tokenizer_is_saved_and_read_at_home(official, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    official.save("~")
    ToyTokenizer(["star"]).save("~")
    assert {"tokenizer.model", "words.json"} <= {path.name for path in tmp_path.iterdir()}
    again = LlamaTokenizer("~/tokenizer.model", official.added)
    assert again.encode("a cat") == official.encode("a cat")


def test_the_form_in_which_transformers_4_wrote_it(copy, official):
    """The space is put in front by a normalizer, and a merge is one string."""

    def edit(content):
        content["pre_tokenizer"] = None
        content["normalizer"] = {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        }
        content["model"]["unk_token"] = "<unk>"
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
        for token in content["added_tokens"]:  # some versions list them in the vocabulary, too
            content["model"]["vocab"][token["content"]] = token["id"]

    change(copy / "tokenizer.json", edit)
    tokenizer = tokenizer_of(copy)
    assert pieces_of(tokenizer.pieces) == pieces_of(official.pieces)
    assert tokenizer.encode(" a  cat\n") == official.encode(" a  cat\n")


@pytest.fixture(scope="module")
def trained():
    """600 pieces: all bytes, as in the published tokenizer, and two that users defined."""
    written, words = io.BytesIO(), (OFFICIAL.parent / "README.md").read_text(encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words.split("\n")),
        model_writer=written,
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<filler 0>", "<filler 1>"],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def as_transformers_converts(processor) -> dict:
    """The content of `tokenizer.json`: every pair that makes a piece, the highest score first."""
    vocabulary = {piece: index for index, piece in enumerate(pieces_of(processor))}
    score = {piece: processor.get_score(index) for piece, index in vocabulary.items()}
    pairs = [
        (piece[:length], piece[length:])
        for piece in vocabulary
        for length in range(1, len(piece))
        if piece[:length] in vocabulary and piece[length:] in vocabulary
    ]
    pairs.sort(key=lambda pair: (-score["".join(pair)], len(pair[0])))
    defined = [piece for piece in vocabulary if piece.startswith("<filler")]
    return {
        "added_tokens": [
            {"content": piece, "id": vocabulary[piece], "special": piece in BASIC}
            for piece in (*BASIC, *defined)
        ],
        "pre_tokenizer": json.loads((RESAVED / "tokenizer.json").read_bytes())["pre_tokenizer"],
        "model": {
            "type": "BPE",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": pairs,
        },
    }


def test_bytes_and_pieces_that_users_defined(trained, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(as_transformers_converts(trained)), encoding="utf-8")
    found = sentencepiece.SentencePieceProcessor(model_proto=model_from_json(path))
    assert pieces_of(found) == pieces_of(trained)
    for text in texts(pieces_of(trained)):
        ids = trained.encode(text)
        assert found.encode(text) == ids and found.decode(ids) == trained.decode(ids)
    assert any(trained.is_byte(index) for index in trained.encode("\u4e2d"))


def test_merges_in_an_order_that_sentencepiece_does_not_have(trained, tmp_path):
    content, path = as_transformers_converts(trained), tmp_path / "tokenizer.json"
    merges = content["model"]["merges"]
    joined = ["".join(pair) for pair in merges]
    piece = next(piece for piece in joined if joined.count(piece) > 1)
    merges.append(merges.pop(joined.index(piece)))
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json: model\.merges are not"):
        model_from_json(path)


@pytest.mark.parametrize("name", ["added_tokens.json", "tokenizer_config.json"])
def test_the_ids_of_the_config_suffice(tmp_path, official, name):
    folder = Path(shutil.copytree(OFFICIAL, tmp_path / "copy"))
    (folder / name).unlink()
    assert tokenizer_of(folder).special == official.special


def test_null_for_the_id_of_a_token_says_nothing(tmp_path, official):
    folder = Path(shutil.copytree(OFFICIAL, tmp_path / "copy"))
    change(folder / "added_tokens.json", lambda ids: ids.update({"<dream>": None, "<new>": None}))
    assert tokenizer_of(folder).special == official.special


# --------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda all: all["pre_tokenizer"].update(prepend_scheme="first"), "spaces are .*first"),
        (lambda all: all["pre_tokenizer"].update(split=True), "spaces are"),
        (lambda all: all.update(pre_tokenizer={"type": "ByteLevel"}), "spaces are .*ByteLevel"),
        (lambda all: all.update(pre_tokenizer=None), "spaces are"),
        (lambda all: all.update(normalizer={"type": "NFKC"}), "spaces are .*NFKC"),
        (lambda all: all["model"].update(type="Unigram"), "type is 'Unigram'"),
        (lambda all: all["model"].update(dropout=0.1), "dropout is 0.1"),
        (lambda all: all["model"].update(byte_fallback=None), "byte_fallback is False"),
        (lambda all: all["model"].update(ignore_merges=True), "ignore_merges is True"),
        (lambda all: all["model"]["merges"].pop(), "model.merges are not"),
        (lambda all: all["model"]["merges"].append(["h", "r"]), None),  # makes no piece
        (lambda all: all["model"]["merges"].append(["h", "e"]), "model.merges are not"),
        (lambda all: all["model"].update(merges=None), "model.merges are not"),
        (lambda all: all["model"]["vocab"].update(extra=300), "ids in model.vocab are not 0 to"),
        (lambda all: all["model"].update(vocab=None), "model.vocab does not assign"),
        (lambda all: all["added_tokens"].append({"id": 3}), "added_tokens holds"),
    ],
)
def test_a_tokenizer_json_of_another_kind(copy, official, edit, words):
    change(copy / "tokenizer.json", edit)
    if words is None:
        assert tokenizer_of(copy).encode("the cat") == official.encode("the cat")
        return
    with pytest.raises(ValueError, match=words) as error:
        tokenizer_of(copy)
    assert str(error.value).startswith(str(copy / "tokenizer.json"))


@pytest.mark.parametrize("token", ["<dream_start>", "[PAD]", "<s>"])
def test_ids_in_tokenizer_json_and_in_the_config_that_differ(copy, token):
    def edit(content):
        (entry,) = [entry for entry in content["added_tokens"] if entry["content"] == token]
        entry["id"] += 100

    change(copy / "tokenizer.json", edit)
    with pytest.raises(ValueError) as error:
        tokenizer_of(copy)
    said = str(error.value)
    assert "tokenizer.json and special_tokens2ids_dict in config.json disagree about" in said
    assert token in said


def test_ids_of_pieces_that_differ_from_those_of_the_config(copy):
    change(
        copy / "config.json",
        lambda config: config["special_tokens2ids_dict"].update({"<unk>": 5}),
    )
    with pytest.raises(ValueError, match=r"disagree about \{'<unk>': \(0, 5\)\}"):
        tokenizer_of(copy)


@pytest.mark.parametrize(
    "field, value",
    [("legacy", False), ("add_bos_token", False), ("add_eos_token", True)],
)
def test_settings_of_the_tokenizer_that_are_not_implemented(copy, field, value):
    change(copy / "tokenizer_config.json", lambda settings: settings.update({field: value}))
    with pytest.raises(ValueError, match=rf"tokenizer_config\.json: {field} is {value}"):
        tokenizer_of(copy)


def test_no_tokenizer_at_all(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model is missing"):
        tokenizer_of(copy)


def test_a_tokenizer_model_that_is_cut_is_never_read_as_a_smaller_one(copy):
    """Between two pieces, what is left is a file of the same format."""
    whole = (OFFICIAL / "tokenizer.model").read_bytes()
    last_piece = whole.rindex(b"\n\x01y")  # one byte long, of the one letter
    for length in (*range(1, last_piece, 17), *range(last_piece - 20, last_piece)):
        (copy / "tokenizer.model").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"tokenizer\.model"):
            tokenizer_of(copy)


@pytest.mark.parametrize("words", [["a", None], ["a", "a"], ["a", "<s>"], ["a"] * 3, [["a"]]])
def test_a_list_of_words_that_is_not_one(tmp_path, words):
    (tmp_path / "words.json").write_text(json.dumps(words), encoding="utf-8")
    with pytest.raises(ValueError, match=r"words\.json"):
        read_tokenizer(tmp_path, {})
    assert set(BASIC) < set(SPECIAL_TOKENS)
