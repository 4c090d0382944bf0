"""New words for a toy: what is old stays as it is."""

import copy

import pytest
import torch
from models_shared import same_weights, tiny_official, untrained_toy

import minidream
from minidream.tuning.choices import choose, dtypes_of, merge, trained_of
from minidream.tuning.words import add_words, tables_of, unknown_words

WORDS = ("rocket", "cat")
TEXT = "a red circle left of a small blue square"


@pytest.fixture(scope="module")
def original():
    return untrained_toy()


@pytest.fixture
def grown(original):
    model = copy.deepcopy(original)
    add_words(model, WORDS, seed=3)
    return model


def test_old_words_keep_their_ids_and_rows_and_new_ones_follow(original, grown):
    old, new = original.tokenizer, grown.tokenizer
    assert new.encode(TEXT) == old.encode(TEXT) and new.special == old.special
    assert new.encode("rocket cat") == [len(old), len(old) + 1]
    for before, after in zip(tables_of(original.llm), tables_of(grown.llm)):
        assert after.weight.shape == (len(old) + 2, before.weight.shape[1])
        assert torch.equal(after.weight[: len(old)], before.weight)
    embeddings = grown.llm.embed_tokens.weight
    assert not torch.equal(embeddings[-1], embeddings[-2])
    assert embeddings[-2:].std() == pytest.approx(embeddings[:-2].std().item(), rel=0.2)
    assert torch.equal(grown.encode(TEXT), original.encode(TEXT))


def test_a_new_word_is_as_likely_as_a_word_on_average(original, grown):
    hidden = torch.randn(
        5, grown.llm.config.hidden_size, generator=torch.Generator().manual_seed(0)
    )
    logits, old = grown.llm.logits(hidden), original.llm.logits(hidden)
    assert torch.equal(logits[:, : old.shape[1]], old)
    spoken = old[:, -len(original.tokenizer.words) :].mean(dim=1)
    torch.testing.assert_close(logits[:, -1], spoken)


def test_a_grown_toy_is_saved_and_loaded(grown, tmp_path):
    minidream.save(grown, tmp_path / "model")
    loaded = minidream.load(tmp_path / "model", device="cpu")
    assert same_weights(loaded, grown) and loaded.tokenizer.words[-2:] == list(WORDS)
    assert loaded.llm.config == grown.llm.config
    loaded.dream("a rocket", num_inference_steps=1)


@pytest.mark.parametrize("learn", [("projectors",), ("lora", "unet"), ("llm",)])
def test_only_the_rows_of_new_words_learn_unless_the_language_model_does(original, grown, learn):
    dtypes = dtypes_of(grown)
    choose(grown, learn, new_words=len(WORDS))
    optimizer = torch.optim.AdamW(trained_of(grown), lr=1e-2, weight_decay=0.5)
    grown.loss("a rocket and a cat and a circle").total.backward()
    optimizer.step()
    merge(grown, dtypes)
    assert dtypes_of(grown) == dtypes and not trained_of(grown)
    for before, after in zip(tables_of(original.llm), tables_of(grown.llm)):
        old = len(before.weight)
        assert torch.equal(after.weight[:old], before.weight) == (learn != ("llm",))
        changed = (after.weight[old:] != untouched(original, type(before))[old:]).any(dim=1)
        assert changed.all()


def untouched(original, kind) -> torch.Tensor:
    """A table as it is right after the words are added."""
    model = copy.deepcopy(original)
    add_words(model, WORDS, seed=3)
    (table,) = [table for table in tables_of(model.llm) if type(table) is kind]
    return table.weight


def test_words_that_cannot_be_added_are_refused(original):
    model = copy.deepcopy(original)
    with pytest.raises(ValueError, match="knows these words already: circle, red"):
        add_words(model, ("circle", "rocket", "red"))
    with pytest.raises(ValueError, match="'Rocket' is no word of a tokenizer"):
        add_words(model, ("Rocket",))
    with pytest.raises(TypeError, match="spells any word from its pieces"):
        add_words(tiny_official(), ("rocket",))
    assert same_weights(model, original) and model.tokenizer.words == original.tokenizer.words


def test_unknown_words_are_found(original):
    assert unknown_words(original, "A red Rocket, over a cat.") == {"rocket", "cat"}
    assert not unknown_words(tiny_official(), "rocket")
