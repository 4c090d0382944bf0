"""Text to ids and back, for the toy and LLaMA; text never becomes a special token."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from minidream.tokenizers import SPECIAL_TOKENS, LlamaTokenizer, ToyTokenizer, refuse_special

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
TOY = ToyTokenizer(["a", "red", "ring", "circle", "isn't", ",", ".", "?"])


@pytest.fixture(scope="module")
def llama():
    return LlamaTokenizer(
        TINY / "checkpoint/tokenizer.model",
        json.loads((TINY / "checkpoint/added_tokens.json").read_bytes()),
    )


# --------------------------------------------------------------------------------------------------
# The toy


def test_toy_splits_words_from_punctuation_and_lowers_case():
    ids = TOY.encode("A RED circle,isn't   a ring ?")
    assert [TOY.label(token_id) for token_id in ids] == [
        "a",
        "red",
        "circle",
        ",",
        "isn't",
        "a",
        "ring",
        "?",
    ]
    assert TOY.decode(ids) == "a red circle, isn't a ring?"
    assert TOY.encode(TOY.decode(ids)) == ids
    assert TOY.encode("") == TOY.encode(" \n") == []


def test_toy_ids_are_special_tokens_first_then_words():
    assert [TOY.label(token_id) for token_id in range(4)] == ["[PAD]", "<s>", "</s>", "<unk>"]
    assert {TOY.label(token_id) for token_id in range(len(SPECIAL_TOKENS))} == set(SPECIAL_TOKENS)
    assert len(TOY) == len(SPECIAL_TOKENS) + 8
    assert TOY.encode("a")[0] == len(SPECIAL_TOKENS)
    assert (
        TOY.label(TOY.special.dream_start) == "<dream_start>"
        and TOY.label(TOY.special.im_patch) == "<im_patch>"
    )
    assert (
        (TOY.special.pad, TOY.special.bos, TOY.special.eos)
        == (TOY.pad, TOY.bos, TOY.eos)
        == (0, 1, 2)
    )


def test_toy_decode_leaves_special_tokens_out():
    special = TOY.special
    assert (
        TOY.decode(
            [
                special.bos,
                *TOY.encode("a red ring"),
                special.dream_start,
                special.im_patch,
                special.eos,
            ]
        )
        == "a red ring"
    )


def test_an_unknown_word_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"'cirle'; the nearest that it knows: circle"):
        TOY.encode("a red cirle")
    with pytest.raises(ValueError, match="'é'"):
        TOY.encode("a red é")


def test_repeated_words_are_refused():
    for words in (["a", "a"], ["a", "<s>"]):
        with pytest.raises(ValueError, match="must differ"):
            ToyTokenizer(words)


# --------------------------------------------------------------------------------------------------
# LLaMA


def test_llama_ids_of_the_official_prompts(llama):
    manifest = json.loads((TINY / "manifest.json").read_bytes())["golden"]
    text = manifest["text.safetensors"]["meta"]["prompt"]
    assert [llama.bos, *llama.encode(text)] == load_file(TINY / "golden/text.safetensors")[
        "input_ids"
    ][0].tolist()
    padded = load_file(TINY / "golden/padding.safetensors")
    for row, prompt in enumerate(manifest["padding.safetensors"]["meta"]["prompts"]):
        ids = padded["left.input_ids"][row][padded["left.attention_mask"][row].bool()].tolist()
        assert [llama.bos, *llama.encode(prompt)] == ids
        assert llama.decode(ids) == prompt


def test_llama_text_around_an_image_is_encoded_piece_by_piece(llama):
    """Text on either side of an image is encoded by itself.

    In this conversation, whose turn begins with an image, the text before it ends in a space.
    """
    meta = json.loads((TINY / "manifest.json").read_bytes())["golden"]["data_builder.safetensors"][
        "meta"
    ]
    before, after = meta["conv_prompt_image"].split("<image>")
    question = after.split(" It is")[0]
    ids = load_file(TINY / "golden/data_builder.safetensors")["conv_image.input_ids"].tolist()
    start, end = ids.index(llama.special.im_start), ids.index(llama.special.im_end)
    assert before.endswith("USER: ") and question.endswith("ASSISTANT:")
    assert [llama.bos, *llama.encode(before)] == ids[:start]
    assert llama.encode(question) == ids[end + 1 :][: len(llama.encode(question))]
    assert llama.encode("") == []


def test_llama_special_ids_are_those_of_the_checkpoint(llama):
    ids = json.loads((TINY / "manifest.json").read_bytes())["special_token_ids"]
    for token, token_id in ids.items():
        name = "pad" if token == "[PAD]" else token.strip("<>")
        assert getattr(llama.special, name) == token_id
        assert llama.label(token_id) == token
    assert len(llama) == 128
    assert (
        llama.decode(
            [
                llama.bos,
                *llama.encode("A cat"),
                llama.special.dream_start,
                llama.special.im_patch,
                llama.eos,
            ]
        )
        == "A cat"
    )


def test_llama_labels_have_no_mark_at_the_beginning_of_words(llama):
    labels = [llama.label(token_id) for token_id in llama.encode("A small cat.")]
    assert "".join(labels).replace("\u2423", "") == "Asmallcat."


# --------------------------------------------------------------------------------------------------
# Text never becomes a special token


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_special_tokens_in_text_are_refused(llama, token):
    for encode in (refuse_special, TOY.encode, llama.encode):
        with pytest.raises(ValueError) as caught:
            encode(f"a red{token} ring")
        assert repr(token) in str(caught.value) and "a red" in str(caught.value)


def test_text_that_resembles_a_special_token_is_text(llama):
    text = "< s > <dream start> </ s>"
    ids = llama.encode(text)
    assert not set(ids) & {llama.bos, llama.eos, *llama.names}
    with pytest.raises(ValueError, match="'<'"):
        TOY.encode("a <ring>")  # neither a special token nor a word of the toy


@pytest.mark.parametrize("tokenizer", ["toy", "llama"])
def test_plain_text_never_has_a_special_id(llama, tokenizer):
    tokenizer = {"toy": TOY, "llama": llama}[tokenizer]
    special = set(tokenizer.special.never_sampled) | {
        tokenizer.special.eos,
        tokenizer.special.dream_start,
    }
    assert not special & set(tokenizer.encode("a red circle, a ring."))
