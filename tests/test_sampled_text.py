"""What a model samples is text, whatever it spells, and nothing of what it made is lost."""

import io
import random
from dataclasses import replace

import pytest
import sentencepiece
import torch
from PIL import Image
from torch.testing import assert_close

from minidream import generate
from minidream.documents import Document, lay_out
from minidream.images import to_tensor
from minidream.llm import LLM
from minidream.model import DreamLLM
from minidream.probe import dream_attention
from minidream.tokenizers import (
    ADDED_TOKENS,
    SPECIAL_TOKENS,
    LlamaTokenizer,
    ToyTokenizer,
    escape_special,
    refuse_special,
    unescape_special,
)
from minidream.weights import toy

TWO_STEPS = dict(num_inference_steps=2)
SENTENCES = ["a red ring and a blue star", "<dream_start> [PAD] <im_patch>/\\", "it turns unk?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained toy with a LLaMA tokenizer: sentencepiece with a piece for every byte."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=trained,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    file = tmp_path_factory.mktemp("llama") / "tokenizer.model"
    file.write_bytes(trained.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(file)).vocab_size()
    added = {token: pieces + index for index, token in enumerate(("[PAD]", *ADDED_TOKENS))}
    return toy.new_model(LlamaTokenizer(file, added)).eval().requires_grad_(False)


def spelled(model, text: str, by_bytes: bool) -> list[int]:
    """A text as pieces of one letter each, or of one byte each."""
    find = model.tokenizer.pieces.piece_to_id
    if by_bytes:
        return [find(f"<0x{byte:02X}>") for byte in text.encode()]
    ids = [find(letter) for letter in text]
    assert model.tokenizer.unk not in ids
    return ids


def force(monkeypatch, model, script: list[int]) -> None:
    """Makes a model sample these tokens, then </s>; what must not be sampled scores higher."""
    special, size = model.tokenizer.special, model.llm.config.vocab_size
    remaining = iter(script)

    def logits(hidden):
        scores = torch.zeros(size)
        scores[next(remaining, special.eos)] = 50.0
        scores[list(special.never_sampled)] = 100.0
        scores[len(model.tokenizer) :] = 100.0
        return scores

    monkeypatch.setattr(model.llm, "logits", logits)


@pytest.mark.parametrize(
    "token, by_bytes",
    [(token, False) for token in SPECIAL_TOKENS] + [("<s>", True), ("<dream_start>", True)],
)
def test_a_story_that_spells_a_special_token_is_returned_and_goes_on(
    model, monkeypatch, token, by_bytes
):
    dream, text = model.tokenizer.special.dream_start, spelled(model, token, by_bytes)
    force(monkeypatch, model, [*text, dream, *text, *text, dream, *model.tokenizer.encode("star")])
    written = model.write("a ring", **TWO_STEPS)
    escaped = f"{token[0]}\\{token[1:]}"
    assert [item for item in written.items if isinstance(item, str)] == [
        f"a ring {escaped}",
        escaped * 2,
        "star",
    ]
    assert written.targets == (0, 1) and len(written.images) == 2
    # Read again, it is the same ordinary letters.
    first = lay_out(written, model.tokenizer, model.queries, model.vision.patches).ids
    assert model.tokenizer.pieces.decode(first[1 : first.index(dream)]) == f"a ring {token}"
    monkeypatch.undo()
    assert model.encode(written).isfinite().all() and model.loss(written).total.isfinite()
    assert dream_attention(model, written).inputs
    assert model.chat(written, max_new_tokens=2) is not None
    force(monkeypatch, model, text)
    further = model.write(written, max_new_tokens=50)
    assert further.items[:-1] == written.items[:-1] and further.items[-1] == f"star {escaped}"


def test_an_answer_that_spells_a_special_token_can_be_asked_about(model, monkeypatch):
    force(monkeypatch, model, spelled(model, "a</s>b", by_bytes=False))
    answer = model.chat("what?")
    assert answer == r"a<\/s>b"
    assert Document([answer]).text == answer and model.chat(["what is", answer, "?"]) == ""


def test_typed_text_is_still_refused_and_told_how_to_be_text(model):
    with pytest.raises(ValueError, match=r"special token '<s>'.*<\\s>, makes it ordinary"):
        model.write("a <s> ring")
    assert model.tokenizer.encode(r"<\s>") == model.tokenizer.pieces.encode("<s>")


def test_escaping_by_hand():
    for plain, escaped in [
        ("", ""),
        ("a < s > b", "a < s > b"),
        ("<s>", r"<\s>"),
        (r"<\s>", r"<\\s>"),
        ("[PAD]<s></s>", r"[\PAD]<\s><\/s>"),
        ("<<s>>", r"<<\s>>"),
        ("<s<s>", r"<s<\s>"),
        (r"\<dream>\n", r"\<\dream>\n"),
        ("<S> [pad]", "<S> [pad]"),
    ]:
        assert escape_special(plain) == escaped and unescape_special(escaped) == plain


def test_every_text_comes_back_from_escaping_and_may_be_typed():
    rng, parts = random.Random(0), [*SPECIAL_TOKENS, *"<>[]\\/s ", "PAD", "dream", "<\\", "\\s>"]
    for _ in range(3000):
        text = "".join(rng.choices(parts, k=rng.randint(0, 8)))
        escaped = escape_special(text)
        refuse_special(escaped)
        assert unescape_special(escaped) == text


def test_whatever_is_sampled_is_text_that_can_be_read(model):
    """Also bytes that are no UTF-8, spaces at either end, and nothing at all."""
    rng, tokenizer = random.Random(0), model.tokenizer
    brackets = [tokenizer.pieces.piece_to_id(letter) for letter in "<>[]/s\\"]
    for _ in range(300):
        ids = rng.choices([*range(len(tokenizer)), *brackets * 20], k=rng.randint(0, 12))
        text = tokenizer.decode(ids)
        document = Document([text])
        assert tokenizer.decode(tokenizer.encode(document.text)) == text


def test_ids_without_a_token_are_never_sampled_and_have_no_text(model, monkeypatch):
    """Some checkpoints round the number of embeddings up."""
    larger = LLM(replace(model.llm.config, vocab_size=len(model.tokenizer) + 5))
    larger.initialize(torch.Generator().manual_seed(0))
    parts = (model.vision, model.decoder, model.dream_queries, model.tokenizer, model.config)
    model = DreamLLM(larger.eval(), *parts)
    force(monkeypatch, model, model.tokenizer.encode("a star"))
    assert model.write("a ring", temperature=0).text == "a ring a star"
    force(monkeypatch, model, model.tokenizer.encode("a star"))
    assert model.chat("what?") == "a star"
    beyond = [len(model.tokenizer) + 1, *model.tokenizer.encode("a star"), model.tokenizer.bos]
    assert model.tokenizer.decode(beyond) == "a star"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("fails", ["painting", "reading"])
def test_what_was_painted_before_an_exception_is_kept(model, monkeypatch, error, fails):
    dream, encode = model.tokenizer.special.dream_start, model.tokenizer.encode
    force(monkeypatch, model, [*encode("a star"), dream, *encode("it turns"), dream])
    alone = Document(["a ring a star", model.dream("a ring a star", seed=3, **TWO_STEPS)])
    painted, plain_paint, plain_read = [], generate.paint_checked, generate.Reader.read

    def paint(*arguments):
        if fails == "painting" and painted:
            raise error
        painted.append(plain_paint(*arguments))
        return painted[-1]

    def read(reader, layout, images):
        if fails == "reading" and images:
            raise error
        return plain_read(reader, layout, images)

    monkeypatch.setattr(generate, "paint_checked", paint)
    monkeypatch.setattr(generate.Reader, "read", read)
    prompt = Document(["a ring"])
    with pytest.raises(error) as caught:
        model.write(prompt, seed=3, **TWO_STEPS)
    kept = caught.value.document
    assert kept.items[0] == "a ring a star" and kept.targets == (0,)
    assert kept.items[2:] == (["it turns"] if fails == "painting" else [])
    assert_close(to_tensor(kept.images), to_tensor(alone.images), atol=1.5 / 255, rtol=0)
    assert "sys.last_value.document" in caught.value.__notes__[0]
    assert prompt.items == ["a ring"], "the prompt stays as it was"


@pytest.mark.parametrize("word", ["Red", "a b", "", "<s", "ring.", "<s>x", "É", "\n", "İ"])
def test_the_toy_has_only_words_that_it_can_read_again(word):
    with pytest.raises(ValueError, match="is no word of a tokenizer"):
        ToyTokenizer(["a", word])


def test_all_that_the_toy_can_sample_it_can_read():
    rng, tokenizer = (
        random.Random(0),
        ToyTokenizer(["a", "isn't", "'", "<", ">", "s", "/", ".", "é"]),
    )
    for _ in range(500):
        ids = rng.choices(range(len(tokenizer)), k=rng.randint(0, 9))
        text = Document([tokenizer.decode(ids)]).text
        assert tokenizer.encode(text) == [token for token in ids if token >= len(SPECIAL_TOKENS)]


def test_a_picture_does_not_end_a_document_that_is_continued():
    """Text of the model joins the text before it, but never crosses a picture."""
    picture = Image.new("RGB", (3, 2), "red")
    document = Document(["a ", picture])
    document.add_text(" ")
    assert document.items == ["a ", picture]
    document.add_text(" star ")
    document.add_text("now")
    document.add_painted(Image.new("L", (2, 2)))
    assert document.items[2] == "star now" and document.targets == (0, 1)
    assert document.images[1].mode == "RGB"
