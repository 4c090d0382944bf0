"""Thinking before painting: the model first says what a picture will show, and then paints that."""

import pytest
import torch
from models_shared import tiny_official, untrained_toy
from PIL import Image
from torch.testing import assert_close

from minidream import generate
from minidream.documents import IGNORED, THOUGHTS, Document, lay_out, set_off

OPTIONS = dict(num_inference_steps=1, output_type="pt")
PHOTO = Image.new("RGB", (40, 30), "purple")
OPENING = THOUGHTS["toy"]


@pytest.fixture(scope="module")
def toy_model():
    return untrained_toy()


def says(monkeypatch, model, words: str) -> None:
    """Makes a model continue everything with the same words, then `<dream_start>`."""
    script = [*model.tokenizer.encode(words), model.tokenizer.special.dream_start]
    plain = generate.Reader

    class Scripted(plain):
        def __init__(self, model):
            super().__init__(model)
            self.said = 0

        def next_logits(self, banned):
            logits = super().next_logits(banned)
            logits[script[self.said]] = 1e4
            self.said += 1
            return logits

    monkeypatch.setattr(generate, "Reader", Scripted)


def test_a_thought_goes_on_from_the_prompt_and_is_painted(monkeypatch, toy_model):
    says(monkeypatch, toy_model, "a green ring")
    image, thought = toy_model.dream(
        Document([PHOTO, "the same but green"]), think=True, return_thought=True, **OPTIONS
    )
    assert thought == "a green ring"
    whole = Document([PHOTO, "the same but green", f". {OPENING} a green ring"])
    assert_close(image, toy_model.dream(whole, **OPTIONS), atol=1e-5, rtol=0)
    plain = toy_model.dream(Document([PHOTO, "the same but green"]), **OPTIONS)
    assert not torch.equal(image, plain)


def test_without_return_thought_only_pictures_come_back(toy_model):
    image = toy_model.dream("a red star", think=True, **OPTIONS)
    assert image.shape == (3, *toy_model.dream("a red star", **OPTIONS).shape[1:])
    assert len(toy_model.dream(["a red star"], think=True, **OPTIONS)) == 1


def test_each_prompt_of_a_batch_has_its_own_thought(toy_model):
    prompts = ["a red star", Document([PHOTO, "the same"]), "a small blue ring above a circle"]
    images, thoughts = toy_model.dream(prompts, seed=4, think=True, return_thought=True, **OPTIONS)
    for index, prompt in enumerate(prompts):
        image, thought = toy_model.dream(
            prompt, seed=4 + index, think=True, return_thought=True, **OPTIONS
        )
        assert thought == thoughts[index]
        assert_close(image, images[index], atol=1e-3, rtol=0)


def test_a_thought_is_the_likeliest_continuation(toy_model):
    opened = Document([f"a red star. {OPENING}"])
    layout = toy_model.open_layout(opened)
    thought = generate.thought_after(toy_model, opened, layout)
    special, ids = toy_model.tokenizer.special, list(layout.ids)
    for _ in range(5):  # by reading everything again for each token
        hidden = toy_model.llm(toy_model.llm.embed_tokens(torch.tensor([ids])))
        logits = toy_model.llm.logits(hidden[0, -1])
        logits[list(special.never_sampled)] = -torch.inf
        ids.append(logits.argmax().item())
        if ids[-1] in (special.eos, special.dream_start):
            ids.pop()
            break
    first = toy_model.tokenizer.decode(ids[len(layout.ids) :])
    ended = len(ids) < len(layout.ids) + 5
    assert first and (thought == first if ended else thought.startswith(first))


def test_a_thought_leaves_room_for_the_queries(monkeypatch, toy_model):
    says(monkeypatch, toy_model, " ".join(["star"] * 300))
    monkeypatch.setattr(generate, "THOUGHT_TOKENS", 1000)
    context = toy_model.llm.config.max_position_embeddings
    prompt = " ".join(["red"] * (context - 60))
    _, thought = toy_model.dream(prompt, think=True, return_thought=True, **OPTIONS)
    layout = toy_model.prompt_layout(Document([prompt]).with_thought(OPENING, thought))
    assert len(layout.ids) == context
    with pytest.raises(ValueError, match=f"the context has {context}"):
        toy_model.dream(" ".join(["red"] * (context - 18)), think=True, **OPTIONS)


def test_a_thought_that_is_asked_for_must_be_thought(toy_model):
    with pytest.raises(ValueError, match="needs think=True"):
        toy_model.dream("a red star", return_thought=True)


def test_the_official_layout_thinks_in_its_own_words():
    model = tiny_official()
    opening = THOUGHTS[model.config.template]
    _, thought = model.dream("a red star", think=True, return_thought=True, **OPTIONS)
    opened = Document(["a red star"]).with_thought(opening)
    expected = generate.thought_after(model, opened, model.open_layout(opened))
    assert isinstance(thought, str) and thought == expected


def test_write_says_before_each_picture_what_it_shows(monkeypatch, toy_model):
    special, encode = toy_model.tokenizer.special, toy_model.tokenizer.encode
    dream, end = special.dream_start, special.eos
    sampled = iter([*encode("a star."), dream, *encode("it turns blue."), dream, end])
    monkeypatch.setattr(generate, "choose", lambda *_: next(sampled))
    # A thought ends with either: in training, a thought that nothing is painted of ends with </s>.
    thought = iter([*encode("a red star"), dream, *encode("a blue star"), end])
    plain = generate.Reader.likeliest

    def thinking(reader, *arguments):
        scores = torch.nn.functional.one_hot
        size = len(toy_model.tokenizer)
        reader.next_logits = lambda _: scores(torch.tensor(next(thought)), size)
        found = plain(reader, *arguments)
        del reader.next_logits
        return found

    monkeypatch.setattr(generate.Reader, "likeliest", thinking)
    document = toy_model.write("a story:", think=True, num_inference_steps=1)
    texts = [item for item in document.items if isinstance(item, str)]
    assert texts == [
        f"a story: a star. {OPENING} a red star",
        f"it turns blue. {OPENING} a blue star",
    ]
    assert document.targets == (0, 1)
    # The second picture is painted from everything before it, thoughts included.
    expected = toy_model.dream(document.before(1), seed=1, num_inference_steps=1)
    assert_close(
        torch.tensor(list(document.images[1].get_flattened_data())).float(),
        torch.tensor(list(expected.get_flattened_data())).float(),
        atol=1.01,
        rtol=0,
    )


def test_an_opening_is_set_off_by_a_full_stop_where_none_is():
    assert set_off("now", ["a ring"]) == ". now" and set_off("now", ["a ring. "]) == "now"
    assert set_off("now", [PHOTO]) == "now" and set_off("now", []) == "now"
    assert Document(["a ring"]).with_thought("now", "blue").items == ["a ring", ". now blue"]
    document = Document([PHOTO, "it turns blue.", PHOTO], targets=[1])
    assert document.with_thought("now").targets == (1,)


def test_each_item_can_be_learned_or_not(toy_model):
    document = Document([PHOTO, "a ring", "now there is", "a star", PHOTO], targets=[1])
    learned = [False, False, False, True, True]
    layout = lay_out(document, toy_model.tokenizer, 2, 3, learned)
    special, encode = toy_model.tokenizer.special, toy_model.tokenizer.encode
    wanted = [*encode("a star"), special.dream_start, special.eos]
    assert [label for label in layout.labels if label != IGNORED] == wanted
    plain = lay_out(document, toy_model.tokenizer, 2, 3)
    assert layout.ids == plain.ids and layout.queries == plain.queries
    assert lay_out(document, toy_model.tokenizer, 2, 3, [True] * 5).labels == plain.labels
