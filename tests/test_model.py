"""All parts joined: reading, dreaming, learning, answering and writing, with an untrained toy.

Untrained, since what is tested here holds for all weights; and quick, since the toy is small.
"""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models_shared import tiny_official, untrained_toy
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from minidream import dream_queries as dreams
from minidream import generate, probe
from minidream import model as model_module
from minidream.diffusion import picture_noise
from minidream.documents import IGNORED, Document, collate, lay_out, turn_layout
from minidream.generate import choose
from minidream.images import to_pil
from minidream.tokenizers import ToyTokenizer
from minidream.weights import toy
from minidream.world import describe, render, sample_scene
from minidream.world.language import VOCABULARY

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
QUERIES, PATCHES, CONTEXT = 16, 64, 512
RNG = random.Random(0)
SCENES = [sample_scene(RNG) for _ in range(4)]
PICTURES = to_pil(render(SCENES, toy.IMAGE_SIZE)[0])
SHORT, LONG = (
    "a red ring",
    "there is a small blue square to the left of a large green star on a white background",
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = toy.new_model(ToyTokenizer(VOCABULARY)).eval()
    assert (model.queries, model.vision.patches, model.llm.config.max_position_embeddings) == (
        QUERIES,
        PATCHES,
        CONTEXT,
    )
    return model


@pytest.fixture
def fresh():
    """A model of one's own, to be changed."""
    torch.manual_seed(0)
    return toy.new_model(ToyTokenizer(VOCABULARY))


def pixels(image):
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)


# --------------------------------------------------------------------------------------------------
# Reading


def test_prompts_of_different_length_give_what_each_gives_alone(model):
    """Also with pictures, in a batch where the blocks begin at another position in every row."""
    prompts = [
        LONG,
        SHORT,
        Document([PICTURES[0], "the same but larger"]),
        "",
        Document(["a story:", PICTURES[1], "it turns red.", PICTURES[2], "now"]),
    ]
    together = model.encode(prompts)
    assert together.shape == (5, QUERIES, toy.LLM_SIZE)
    for prompt, states in zip(prompts, together):
        assert_close(model.encode(prompt)[0], states, atol=1e-5, rtol=0)
    distances = torch.pdist(together.flatten(1))
    assert distances.min() > 1, "and each gives something else"


def test_a_query_sees_pictures_in_their_order(model):
    first, second = (
        model.encode(Document([PICTURES[a], "now", PICTURES[b], "swapped"]))
        for a, b in ((0, 1), (1, 0))
    )
    assert (first - second).abs().max() > 1e-2


def test_the_training_layout_gives_the_states_that_encode_gives(model):
    """Nothing looks ahead: what stands behind the queries of a picture does not matter to them."""
    document = Document(
        [
            PICTURES[0],
            "the same but larger",
            PICTURES[1],
            "now it is blue.",
            PICTURES[2],
            "they swap places.",
        ]
    )
    assert document.targets == (1, 2)
    other = Document(["a red ring", PICTURES[3]])
    layouts = [lay_out(one, model.tokenizer, QUERIES, PATCHES) for one in (document, other)]
    batch = collate(layouts, model.tokenizer.special.pad)
    with torch.no_grad():
        hidden = model.llm(model.embed(batch, [*PICTURES[:3], PICTURES[3]]))
    states = dreams.gather(hidden, QUERIES, batch.queries)
    prompts = [
        Document(document.items[:2]),
        Document(document.items[:4]),
        Document(other.items[:1]),
    ]
    assert_close(states, model.encode(prompts), atol=1e-5, rtol=0)


def test_each_prompt_becomes_a_document_once_and_is_laid_out_once(model, monkeypatch):
    """Also the negative prompt, the opening of `write`, and what `dream_attention` looks at."""
    laid_out, made = [], []

    def count_layouts(document, *arguments, **options):
        laid_out.append(document.text)
        return lay_out(document, *arguments, **options)

    make = Document.__init__

    def count_documents(document, items, targets=None):
        made.append(items)
        make(document, items, targets)

    monkeypatch.setattr(model_module, "lay_out", count_layouts)
    monkeypatch.setattr(Document, "__init__", count_documents)
    model.dream([LONG, SHORT, "a ring"], negative_prompt="a star", **TWO_STEPS)
    assert sorted(laid_out) == sorted([LONG, SHORT, "a ring", "a star"]) and len(made) == 4
    laid_out.clear(), made.clear()
    model.encode([LONG, SHORT])
    assert laid_out == [LONG, SHORT] and len(made) == 2
    laid_out.clear(), made.clear()
    monkeypatch.setattr(
        model.llm, "logits", Scripted(model, [model.tokenizer.special.dream_start] * 2)
    )
    model.write(SHORT, max_images=2, **TWO_STEPS)
    assert sorted(laid_out) == ["", SHORT]
    laid_out.clear()
    probe.dream_attention(model, Document([SHORT, PICTURES[0], LONG, PICTURES[1]]), image=0)
    assert laid_out == [SHORT], "and nothing after the queries"


def test_prompt_layout_ends_in_queries_and_shows_painted_images_twice(model):
    special = model.tokenizer.special
    layout = model.prompt_layout(Document(["a story:", PICTURES[0], "now"]))
    assert layout.ids[-QUERIES - 1 :] == [special.dream_start] + [special.im_patch] * QUERIES
    assert layout.ids.count(special.dream_start) == 2 and layout.ids.count(special.im_start) == 1
    assert set(layout.labels) == {IGNORED} and special.eos not in layout.ids
    assert (
        model.prompt_layout("").ids
        == [special.bos, special.dream_start] + [special.im_patch] * QUERIES
    )
    assert model.prompt_layout(" ").ids == model.prompt_layout(Document([])).ids


# --------------------------------------------------------------------------------------------------
# Dreaming

SHAPE = (toy.LATENT_CHANNELS, toy.LATENT_SIZE, toy.LATENT_SIZE)


def shape_in_words(*shape: int) -> str:
    """A shape as an error names it, as a regular expression."""
    return re.escape(str(shape))


def given(*shape: int) -> str:
    return f"{shape_in_words(*shape)} were given"


TWO_STEPS = dict(num_inference_steps=2)


def test_a_list_is_dreamt_as_its_items_alone(model):
    prompts = [LONG, SHORT, Document([PICTURES[0], "the same but swapped"])]
    together = model.dream(prompts, seed=5, output_type="pt", **TWO_STEPS)
    assert isinstance(together, list) and len(together) == 3
    for number, (prompt, image) in enumerate(zip(prompts, together)):
        alone = model.dream(prompt, seed=5 + number, output_type="pt", **TWO_STEPS)
        assert_close(alone, image, atol=1e-3, rtol=0)
    assert (
        together[0] - model.dream(LONG, seed=6, output_type="pt", **TWO_STEPS)
    ).abs().max() > 0.01, "seeds do matter"


def test_painting_encoded_prompts_is_dreaming(model):
    prompts = [LONG, SHORT]
    options = dict(output_type="pt", **TWO_STEPS)
    dreamt = torch.stack(model.dream(prompts, seed=5, **options))
    states = model.encode(prompts)
    assert_close(torch.stack(model.paint(states, seed=5, **options)), dreamt, atol=1e-3, rtol=0)
    exchanged = model.paint(states.flip(0), seed=[6, 5], **options)
    assert_close(torch.stack(exchanged), dreamt.flip(0), atol=1e-3, rtol=0)


def test_output_types_are_one_picture_in_three_forms(model):
    forms = {
        form: model.dream(SHORT, seed=3, output_type=form, **TWO_STEPS)
        for form in ("pil", "pt", "latent")
    }
    assert forms["latent"].shape == SHAPE
    assert (
        forms["pt"].shape == (3, toy.IMAGE_SIZE, toy.IMAGE_SIZE)
        and 0 <= forms["pt"].min() < forms["pt"].max() <= 1
    )
    assert isinstance(forms["pil"], Image.Image) and forms["pil"].size == (
        toy.IMAGE_SIZE,
        toy.IMAGE_SIZE,
    )
    with torch.no_grad():
        assert_close(
            model.decoder.decode(forms["latent"].unsqueeze(0))[0], forms["pt"], atol=1e-5, rtol=0
        )
    assert_close(pixels(forms["pil"]).permute(2, 0, 1), forms["pt"], atol=0.5 / 255 + 1e-5, rtol=0)
    assert forms["pil"].tobytes() == model.dream(SHORT, seed=3, **TWO_STEPS).tobytes(), (
        "the same seed, the same picture"
    )
    assert [type(image) for image in model.dream([SHORT], **TWO_STEPS)] == [Image.Image], (
        "a list of one stays a list"
    )


def test_dream_is_states_then_sampler(model):
    """Guidance away from the empty prompt, from the noise of the seed."""
    decoder = model.decoder
    null, states = model.encode(""), model.encode([SHORT, LONG])
    noise, _ = picture_noise([4, 5], decoder.latent_shape)
    expected = decoder.sample(
        decoder.projector(states), decoder.projector(null).expand(2, -1, -1), noise, 2, 2.5
    )
    dreamt = model.dream(
        [SHORT, LONG], seed=4, guidance_scale=2.5, output_type="latent", **TWO_STEPS
    )
    assert_close(torch.stack(dreamt), expected, atol=1e-5, rtol=0)
    given = model.dream(
        [SHORT, LONG], seed=99, guidance_scale=2.5, output_type="latent", latents=noise, **TWO_STEPS
    )
    assert_close(torch.stack(given), expected, atol=1e-5, rtol=0)


def test_negative_prompt_and_guidance_change_the_picture(model):
    def dream(**options):
        return model.dream(LONG, seed=1, output_type="latent", **TWO_STEPS, **options)

    plain = dream(guidance_scale=6.0)
    assert_close(dream(guidance_scale=6.0, negative_prompt=""), plain, atol=0, rtol=0)
    assert (dream(guidance_scale=6.0, negative_prompt=SHORT) - plain).abs().max() > 1e-4
    assert (
        dream(guidance_scale=6.0, negative_prompt=Document([PICTURES[0]])) - plain
    ).abs().max() > 1e-4
    assert_close(
        dream(guidance_scale=1.0), dream(guidance_scale=0.0, negative_prompt=SHORT), atol=0, rtol=0
    )
    # Pushed away from itself, a prompt is left where it is.
    assert_close(
        dream(guidance_scale=6.0, negative_prompt=LONG),
        dream(guidance_scale=1.0),
        atol=1e-3,
        rtol=0,
    )


def test_unset_values_are_the_checkpoints(model):
    defaults = model.decoder.config
    model.decoder.config = replace(defaults, num_inference_steps=3, guidance_scale=2.0)
    try:
        unset = model.dream(SHORT, output_type="latent")
    finally:
        model.decoder.config = defaults
    assert_close(
        unset,
        model.dream(SHORT, num_inference_steps=3, guidance_scale=2.0, output_type="latent"),
        atol=0,
        rtol=0,
    )


# --------------------------------------------------------------------------------------------------
# Bad input is refused before any work, and the message says what would be right


@pytest.fixture
def idle(model, monkeypatch):
    """The model, failing the test if it starts to paint."""
    monkeypatch.setattr(model.decoder, "sample", lambda *_, **__: pytest.fail("work had begun"))
    return model


@pytest.mark.parametrize(
    "prompts, options, error, message",
    [
        ([], {}, ValueError, "list of prompts is empty"),
        (PICTURES[0], {}, TypeError, r"bare image .*minidream\.Document"),
        ([SHORT, PICTURES[0]], {}, TypeError, r"bare image .*minidream\.Document"),
        ([SHORT, 7], {}, TypeError, "str or a minidream.Document, not a int"),
        (None, {}, TypeError, "not a NoneType"),
        ([[SHORT]], {}, TypeError, "not a list"),
        ([SHORT, "a <dream_start> ring"], {}, ValueError, "special token '<dream_start>'"),
        ("a red heart", {}, ValueError, "'heart'; the nearest"),
        (SHORT, dict(output_type="png"), ValueError, '"pil", "pt" or "latent", not \'png\''),
        (SHORT, dict(num_inference_steps=0), ValueError, "between 1 and 1000.* not 0"),
        (SHORT, dict(num_inference_steps=1001), ValueError, "between 1 and 1000.* not 1001"),
        (
            [SHORT, LONG],
            dict(latents=torch.zeros(1, *SHAPE)),
            ValueError,
            given(1, *SHAPE) + "; these prompts need " + shape_in_words(2, *SHAPE),
        ),
        (
            SHORT,
            dict(latents=torch.zeros(SHAPE)),
            ValueError,
            given(*SHAPE) + "; these prompts need " + shape_in_words(1, *SHAPE),
        ),
        (SHORT, dict(negative_prompt="</s>"), ValueError, "special token '</s>'"),
        (SHORT, dict(negative_prompt=PICTURES[0]), TypeError, "bare image"),
        (
            "a " * 500,
            {},
            ValueError,
            r"takes 518 positions, its 16 dream queries included; the context has 512",
        ),
        (Document([PICTURES[0]] * 8), {}, ValueError, r"takes 546 positions.*the context has 512"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else None,
)
def test_dream_refuses(idle, prompts, options, error, message):
    with pytest.raises(error, match=message):
        idle.dream(prompts, **options)


@pytest.mark.parametrize(
    "shape, seed, message",
    [
        ((2, QUERIES, 192), [0], "1 seeds were given for 2 pictures"),
        ((2, QUERIES, 192), [0, 1, 2], "3 seeds were given for 2 pictures"),
        ((2, QUERIES - 1, 192), 0, r"\(batch, 16, 192\), not \(2, 15, 192\)"),
        ((QUERIES, 192), 0, r"\(batch, 16, 192\), not \(16, 192\)"),
    ],
)
def test_paint_refuses(idle, shape, seed, message):
    with pytest.raises(ValueError, match=message):
        idle.paint(torch.zeros(shape), seed)


def test_the_longest_prompt_that_fits_is_read(model):
    words = CONTEXT - 2 - QUERIES  # beside <s>, <dream_start> and the queries
    assert model.encode("a " * words).isfinite().all()
    with pytest.raises(ValueError, match="takes 513 .* has 512"):
        model.encode("a " * (words + 1))


def test_a_picture_that_cannot_become_rgb_never_enters_a_document():
    with pytest.raises(ValueError, match=r"mode F and size \(3, 5\) cannot be read as RGB"):
        Document([Image.new("F", (3, 5)), "the same but larger"])


def test_pictures_of_other_modes_and_sizes_are_read(model):
    clear = PICTURES[0].convert("RGBA")
    assert_close(
        model.encode(Document([clear, "now"])),
        model.encode(Document([PICTURES[0], "now"])),
        atol=0,
        rtol=0,
    )
    wide = Image.new("L", (90, 50), 99)
    assert model.encode(Document([wide, "now"])).shape == (1, QUERIES, toy.LLM_SIZE)


@pytest.mark.parametrize(
    "turn, error, message",
    [
        ("", ValueError, "it is empty"),
        ([], ValueError, "it is empty"),
        (["  "], ValueError, "it is empty"),
        (Document([]), ValueError, "it is empty"),
        (None, TypeError, "takes a list of text and images, not a bare NoneType"),
        ([PICTURES[0], 3], TypeError, "item 1 of a document is a int"),
        ("what is <im_start>?", ValueError, "special token '<im_start>'"),
        (["what"] * 600, ValueError, r"takes \d+ positions; the context has 512"),
    ],
)
def test_chat_refuses(model, turn, error, message):
    with pytest.raises(error, match=message):
        model.chat(turn)


@pytest.mark.parametrize(
    "prompt, options, error, message",
    [
        ([SHORT], {}, TypeError, "not a list"),
        (SHORT, dict(max_images=-1), ValueError, "max_images >= 0.*-1, 200, 0.8 and 0.95"),
        (SHORT, dict(max_new_tokens=0), ValueError, "max_new_tokens >= 1"),
        (SHORT, dict(temperature=-0.1), ValueError, "temperature >= 0"),
        (SHORT, dict(top_p=0.0), ValueError, "0 < top_p <= 1"),
        (SHORT, dict(num_inference_steps=0), ValueError, "between 1 and 1000.* not 0"),
        ("a " * 500, {}, ValueError, "takes 518 .* has 512"),
    ],
)
def test_write_refuses(idle, prompt, options, error, message):
    with pytest.raises(error, match=message):
        idle.write(prompt, **options)


# --------------------------------------------------------------------------------------------------
# The loss


def story(*places):
    """Captions, each followed by its picture."""
    return [item for place in places for item in (describe(SCENES[place]).text, PICTURES[place])]


def without_dropping(model):
    model.decoder.config = replace(model.decoder.config, drop_prob=0.0)
    return model


def test_language_loss_by_hand(model):
    documents = [Document(story(0, 1)), Document([PICTURES[2], SHORT])]
    loss = model.loss(documents, torch.Generator().manual_seed(0))
    nats, targets = 0.0, 0
    for (
        document
    ) in documents:  # one by one, and one target at a time: no padding, no shifted tensors
        layout = lay_out(document, model.tokenizer, QUERIES, PATCHES)
        with torch.no_grad():
            images = [document.images[number] for number, _ in layout.patches]
            logits = model.llm.logits(model.llm(model.embed(collate([layout], pad=0), images)))[0]
        for place, label in enumerate(layout.labels):
            if label != IGNORED:
                nats -= logits[place - 1].log_softmax(dim=-1)[label].item()
                targets += 1
    words = sum(len(model.tokenizer.encode(text)) for text in (*story(0, 1)[::2], SHORT))
    assert targets == words + 2 + 2, "all words, two <dream_start> and two </s>"
    assert_close(loss.language.item(), nats / targets, atol=1e-4, rtol=0)


def test_diffusion_loss_is_the_decoders_on_the_states_of_the_queries(fresh):
    model = without_dropping(fresh)
    documents = [
        Document(story(0, 1)),
        Document([PICTURES[2], SHORT]),
        Document(["a ring", PICTURES[3]]),
    ]
    loss = model.loss(documents, torch.Generator().manual_seed(3))
    states = model.encode([Document(story(0)[:1]), Document(story(0, 1)[:3]), "a ring"])
    latents = model.decoder.latents_of([PICTURES[0], PICTURES[1], PICTURES[3]])
    expected = model.decoder.loss(
        latents, model.decoder.projector(states), torch.Generator().manual_seed(3)
    )
    assert_close(loss.diffusion, expected, atol=1e-5, rtol=0)
    assert_close(loss.total, loss.language + toy.PAINTING_WEIGHT * loss.diffusion)
    again = model.loss(documents, torch.Generator().manual_seed(3))
    assert_close(again.total, loss.total, atol=0, rtol=0)


def test_what_is_not_there_costs_nothing(model):
    words = model.loss([Document([SHORT])])
    assert words.diffusion == 0 and words.language > 0
    documents = [Document([SHORT, PICTURES[0]])]
    picture = model.loss_of_layouts(
        [lay_out(documents[0], model.tokenizer, QUERIES, PATCHES, learn_text=False)],
        documents,
        torch.Generator().manual_seed(0),
    )
    assert picture.language == 0 and picture.diffusion > 0
    for losses in (words, picture):
        losses.total.backward()  # a batch without a part still has a gradient to give
    model.zero_grad(set_to_none=True)
    with pytest.raises(ValueError, match="no documents"):
        model.loss([])


@torch.no_grad()
def test_the_loss_takes_a_document_a_text_or_a_list_of_both(model):
    document, text = Document(story(0)), describe(SCENES[1]).text

    def total(documents):
        return model.loss(documents, torch.Generator().manual_seed(5)).total

    assert total(document) == total([document]) == total((document,))
    assert total(text) == total([text]) == total(Document([text]))
    assert total([document, text]) == total([document, Document([text])])
    assert total("") == total(Document([])) > 0  # `</s>` remains to be predicted


@pytest.mark.parametrize(
    "documents, error, message",
    [
        (None, TypeError, "not a NoneType"),
        ([[SHORT]], TypeError, "not a list"),
        (PICTURES[0], TypeError, r"bare image .*minidream\.Document"),
        ([SHORT, PICTURES[0]], TypeError, r"bare image .*minidream\.Document"),
        ([SHORT, "a " * 511], ValueError, "document 1 takes 513 positions; the context has 512"),
        (Document([PICTURES[0]] * 8), ValueError, "document 0 takes 530 positions; .* has 512"),
        ("a <s> ring", ValueError, "special token '<s>'"),
    ],
)
def test_the_loss_refuses_before_it_reads(model, monkeypatch, documents, error, message):
    monkeypatch.setattr(model, "embed", lambda *_: pytest.fail("work had begun"))
    with pytest.raises(error, match=message):
        model.loss(documents)


def test_dropped_conditions_are_the_null_condition(model):
    states = torch.randn(40, QUERIES, toy.LLM_SIZE)
    before = model.decoder.config
    try:
        for share in (0.0, 0.3, 1.0):
            model.decoder.config = replace(before, drop_prob=share)
            with torch.no_grad():
                kept = model.drop_conditions(states, torch.Generator().manual_seed(1))
            dropped = (kept != states).flatten(1).any(dim=1)
            assert_close(
                kept[dropped],
                model.encode("").expand(int(dropped.sum()), -1, -1),
                atol=1e-5,
                rtol=0,
            )
            assert share - 0.15 <= dropped.float().mean() <= share + 0.15 and (share in (0, 1)) == (
                dropped.float().mean().item() == share
            )
    finally:
        model.decoder.config = before


def stage_parameters(model, stage):
    """What each stage of the paper trains; all else is frozen."""
    creation = [model.dream_queries, *model.decoder.projector.parameters()]
    comprehension = list(model.vision.projector.parameters())
    return {
        "stage I, creation": creation,
        "stage I, comprehension": comprehension,
        "stages II and III": [*creation, *comprehension, *model.llm.parameters()],
    }[stage]


@pytest.mark.parametrize(
    "stage", ["stage I, creation", "stage I, comprehension", "stages II and III"]
)
def test_frozen_parts_stay_as_they_are_bit_for_bit(fresh, stage):
    model = fresh.requires_grad_(False)
    trained = stage_parameters(model, stage)
    for parameter in trained:
        parameter.requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained_names = {
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    # All parameters, as a careless script would pass them: without a gradient, weight decay must
    # not touch them either.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    model.loss(
        [Document([PICTURES[3], *story(0, 1)])], torch.Generator().manual_seed(0)
    ).total.backward()
    optimizer.step()
    after = model.state_dict()
    same = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert same == set(after) - trained_names
    assert {name.split(".")[0] for name in same} >= {"decoder", "vision"}
    assert any(name.startswith("decoder.unet") for name in same) and any(
        name.startswith("decoder.vae") for name in same
    )


def test_gradient_reaches_the_queries_through_the_frozen_unet(fresh):
    """The only teacher of a query is the denoising loss: it arrives even if nothing else learns."""
    model = without_dropping(fresh).requires_grad_(False)
    model.dream_queries.requires_grad_(True)
    model.loss(
        [Document([SHORT, PICTURES[0]])], torch.Generator().manual_seed(0)
    ).diffusion.backward()
    assert model.dream_queries.grad.shape == (1, QUERIES, toy.LLM_SIZE)
    assert model.dream_queries.grad.abs().sum(dim=-1).min() > 0, "every single query"


def test_gradient_of_a_picture_reaches_the_words_and_pictures_before_it(model):
    document = Document([PICTURES[1], SHORT, PICTURES[0]])
    layouts = [lay_out(document, model.tokenizer, QUERIES, PATCHES, read_last=False)]
    embeddings = model.embed(collate(layouts, pad=0), [PICTURES[1]]).detach().requires_grad_(True)
    states = dreams.gather(model.llm(embeddings), QUERIES, [(0, layouts[0].queries[0][1])])
    model.decoder.loss(
        model.decoder.latents_of([PICTURES[0]]),
        model.decoder.projector(states),
        torch.Generator().manual_seed(0),
    ).backward()
    last = layouts[0].queries[0][1] + QUERIES
    felt = embeddings.grad[0].abs().sum(dim=-1) > 0
    assert felt[:last].all() and not felt[last:].any()
    model.zero_grad(set_to_none=True)


# --------------------------------------------------------------------------------------------------
# Chat


def test_chat_is_the_likeliest_answer_read_without_a_cache():
    model = untrained_toy()  # which does not end at once
    turn = [PICTURES[0], "describe the picture."]
    answer = model.chat(turn, max_new_tokens=6)
    layout, images = turn_layout(model, turn)
    special, said = model.tokenizer.special, []
    while len(said) < 6:
        with torch.no_grad():
            logits = model.llm.logits(
                model.llm(model.embed(collate([layout], pad=0), images))[0, -1]
            )
        logits[list(special.never_sampled)] = logits[special.dream_start] = -torch.inf
        token = logits.argmax().item()
        if token == special.eos:
            break
        said.append(token)
        layout.add([token], learned=False)
    assert answer == model.tokenizer.decode(said).strip() and said


def test_a_turn_is_a_text_a_picture_a_list_of_them_or_a_document(model):
    """A document's targets say what was painted; in a turn all images are only read."""

    def ids(turn):
        layout, images = turn_layout(model, turn)
        return layout.ids, layout.patches, images

    question = "what color is the ring?"
    assert ids(PICTURES[0]) == ids([PICTURES[0]]) == ids(Document([PICTURES[0]]))
    assert ids(question) == ids([question]) == ids((question,)) == ids(Document([question]))
    assert ids([question, PICTURES[0]]) == ids(Document([question, PICTURES[0]], targets=[0]))
    assert model.chat(PICTURES[0], 3) == model.chat(Document([PICTURES[0]]), 3)


def test_chat_template_by_hand(model):
    special, encode = model.tokenizer.special, model.tokenizer.encode
    read = [special.im_start] + [special.im_patch] * PATCHES + [special.im_end]
    layout, images = turn_layout(model, ["is the", PICTURES[0], "red?", PICTURES[1]])
    assert layout.ids == [
        special.bos,
        *encode("question: is the"),
        *read,
        *encode("red?"),
        *read,
        *encode("answer:"),
    ]
    assert images == [PICTURES[0], PICTURES[1]] and [number for number, _ in layout.patches] == [
        0,
        1,
    ]
    assert turn_layout(model, "red?")[0].ids == [special.bos, *encode("question: red? answer:")]


class Scripted:
    """Language model logits that follow a script of tokens, whatever is read; at its end </s>.

    Tokens that may never be sampled score higher than the script; "red" comes second to it.
    """

    def __init__(self, model, script):
        self.special, self.size = model.tokenizer.special, len(model.tokenizer)
        self.script = [
            number
            for item in script
            for number in ([item] if isinstance(item, int) else model.tokenizer.encode(item))
        ]
        self.red, self.asked = model.tokenizer.ids["red"], 0

    def __call__(self, hidden):
        logits = torch.zeros(self.size)
        logits[self.red] = 20.0
        logits[self.script[self.asked] if self.asked < len(self.script) else self.special.eos] = (
            50.0
        )
        logits[list(self.special.never_sampled)] = 100.0
        self.asked += 1
        return logits


def test_chat_stops_at_the_end_at_its_limit_and_never_dreams(model, monkeypatch):
    dream_start, eos = model.tokenizer.special.dream_start, model.tokenizer.special.eos
    monkeypatch.setattr(model.llm, "logits", Scripted(model, ["a red ring", eos, "a star"]))
    assert model.chat("what is there?") == "a red ring"
    monkeypatch.setattr(model.llm, "logits", Scripted(model, ["red " * 20]))
    assert model.chat("what is there?", max_new_tokens=7) == " ".join(["red"] * 7)
    monkeypatch.setattr(
        model.llm, "logits", Scripted(model, ["blue", dream_start, dream_start, "ring"])
    )
    assert model.chat("what is there?") == "blue red red ring", (
        "where it would dream, the next best is said"
    )
    monkeypatch.setattr(model.llm, "logits", Scripted(model, ["red " * 600]))
    long = ["what"] * 490
    length = len(turn_layout(model, long)[0].ids)
    answer = model.chat(long, max_new_tokens=100)
    assert answer.split() == ["red"] * (CONTEXT - length + 1), (
        "where the context ends, so does the answer"
    )


# --------------------------------------------------------------------------------------------------
# Writing


def test_write_paints_where_it_dreams_and_goes_on(model, monkeypatch):
    dream = model.tokenizer.special.dream_start
    monkeypatch.setattr(
        model.llm,
        "logits",
        Scripted(
            model, ["there is a red ring.", dream, "it turns blue.", dream, "the day goes by."]
        ),
    )
    document = model.write("a story:", seed=4, **TWO_STEPS)
    assert [item if isinstance(item, str) else "[image]" for item in document.items] == [
        "a story: there is a red ring.",
        "[image]",
        "it turns blue.",
        "[image]",
        "the day goes by.",
    ]
    assert document.targets == (0, 1)
    # Each is what `dream` paints of all that stands before it, with the next seed.
    for number, place in enumerate((1, 3)):
        alone = model.dream(Document(document.items[:place]), seed=4 + number, **TWO_STEPS)
        assert_close(pixels(document.items[place]), pixels(alone), atol=1.5 / 255, rtol=0)


def test_what_was_read_while_writing_is_the_training_layout_of_what_was_written(model, monkeypatch):
    """Token for token and state for state, also those that were inserted and not sampled."""
    dream = model.tokenizer.special.dream_start
    prompt = Document([PICTURES[0], "the same but larger", PICTURES[1], "now"])
    monkeypatch.setattr(
        model.llm,
        "logits",
        Scripted(model, ["it turns blue.", dream, "the two swap places.", dream]),
    )
    readers, plain = [], generate.Reader

    class Watched(plain):
        def __init__(self, model):
            super().__init__(model)
            self.states = []
            readers.append(self)

        def read(self, layout, images):
            self.states.append(super().read(layout, images))
            return self.states[-1]

        def read_token(self, token):
            self.states.append(super().read_token(token))
            return self.states[-1]

    monkeypatch.setattr(generate, "Reader", Watched)
    document = model.write(prompt, **TWO_STEPS)
    assert document.targets == (1, 2, 3) and len(document.images) == 4
    layout = lay_out(document, model.tokenizer, QUERIES, PATCHES)
    with torch.no_grad():
        hidden = model.llm(
            model.embed(
                collate([layout], pad=0), [document.images[number] for number, _ in layout.patches]
            )
        )
    [reader] = readers
    assert_close(torch.cat(reader.states, dim=1), hidden[:, :-1], atol=1e-4, rtol=0)  # all but </s>


@pytest.mark.parametrize("most", [0, 1, 2])
def test_write_stops_where_it_would_paint_one_too_many(model, monkeypatch, most):
    dream = model.tokenizer.special.dream_start
    monkeypatch.setattr(
        model.llm, "logits", Scripted(model, ["red", dream, dream, "blue", dream, "green"])
    )
    document = model.write(SHORT, max_images=most, **TWO_STEPS)
    assert len(document.images) == most
    assert (
        document.text == {0: "a red ring red", 1: "a red ring red", 2: "a red ring red blue"}[most]
    )


def test_pictures_of_the_prompt_do_not_count(model, monkeypatch):
    dream = model.tokenizer.special.dream_start
    monkeypatch.setattr(model.llm, "logits", Scripted(model, [dream, "now", dream]))
    document = model.write(
        Document([PICTURES[0], "now", PICTURES[1], "swapped"]), max_images=1, **TWO_STEPS
    )
    assert len(document.images) == 3 and document.targets == (1, 2), (
        "one given, one painted before, one painted now"
    )
    assert document.items[-2:] == [document.images[2], "now"]


def test_write_stops_at_its_tokens_and_where_the_context_ends(model, monkeypatch):
    dream = model.tokenizer.special.dream_start
    monkeypatch.setattr(model.llm, "logits", Scripted(model, ["red " * 600]))
    assert model.write("a", max_new_tokens=5).text == "a red red red red red"
    document = model.write("a " * 480, max_new_tokens=100)
    assert len(document.text.split()) <= CONTEXT - 1 and document.text.split()[480:]
    monkeypatch.setattr(model.llm, "logits", Scripted(model, ["red", dream]))
    assert model.write("a " * 470, **TWO_STEPS).images == [], (
        "a picture that would not fit is not begun"
    )


def test_written_words_are_never_tokens_that_must_be_forced(model, monkeypatch):
    """At a high temperature an untrained model says anything but what was never a target."""
    chosen, plain = [], generate.choose
    monkeypatch.setattr(
        generate, "choose", lambda *arguments: chosen.append(plain(*arguments)) or chosen[-1]
    )
    wild = dict(max_new_tokens=150, temperature=5.0, top_p=1.0, **TWO_STEPS)
    document = model.write("a story:", max_images=1, seed=2, **wild)
    special = model.tokenizer.special
    assert len(chosen) > 5 and len(set(chosen)) > 5
    assert not set(chosen) & set(special.never_sampled)
    assert special.eos not in chosen[:-1] and "<" not in document.text and "[" not in document.text
    again = model.write("a story:", max_images=1, seed=2, **wild)
    assert again.text == document.text and [image.tobytes() for image in again.images] == [
        image.tobytes() for image in document.images
    ]
    other = model.write(
        "a story:", max_images=0, max_new_tokens=150, temperature=5.0, top_p=1.0, seed=3
    )
    assert other.text != document.text


def test_choose_by_hand():
    logits, generator = (
        torch.log(torch.tensor([0.1, 0.5, 0.15, 0.25])),
        torch.Generator().manual_seed(0),
    )
    assert {choose(logits, 0, 1.0, generator) for _ in range(20)} == {1}
    assert {choose(logits, 1.0, 0.5, generator) for _ in range(50)} == {1}, (
        "half is reached by the first alone"
    )
    assert {choose(logits, 1.0, 0.6, generator) for _ in range(200)} == {1, 3}
    drawn = [choose(logits, 1.0, 1.0, generator) for _ in range(2000)]
    assert_close(
        torch.bincount(torch.tensor(drawn)) / 2000,
        torch.tensor([0.1, 0.5, 0.15, 0.25]),
        atol=0.04,
        rtol=0,
    )
    cold = [choose(logits, 0.25, 1.0, generator) for _ in range(500)]
    assert cold.count(1) > 0.85 * 500


# --------------------------------------------------------------------------------------------------
# The official code on its tiny checkpoint


@pytest.fixture(scope="module")
def official():
    return tiny_official()


def golden(name):
    """Tensors and meta of one golden file."""
    manifest = json.loads((TINY / "manifest.json").read_bytes())["golden"][f"{name}.safetensors"]
    return load_file(TINY / f"golden/{name}.safetensors"), manifest.get("meta")


def test_official_query_states_and_conditions(official):
    tensors, meta = golden("dream_prompt")
    for name, prompt in (("prompt", meta["prompt"]), ("empty", "")):
        assert_close(official.encode(prompt), tensors[f"{name}.prompt_embeds"], atol=1e-4, rtol=0)
        with torch.no_grad():
            condition = official.decoder.projector(official.encode(prompt))
        assert_close(condition, tensors[f"{name}.condition"], atol=1e-4, rtol=0)


def test_official_batch_padded_on_the_left(official):
    tensors, meta = golden("padding")
    states = official.encode(meta["prompts"])
    assert_close(states, tensors["left.prompt_embeds"], atol=1e-4, rtol=0)
    assert_close(
        states,
        torch.cat([tensors[f"single.{row}.prompt_embeds"] for row in range(3)]),
        atol=1e-4,
        rtol=0,
    )
    assert (states - tensors["right.prompt_embeds"]).abs().max() > 0.1, (
        "padding on the right, as the official script does, is something else"
    )


def test_official_document_in_one_pass(official):
    tensors, _ = golden("interleaved_forward")
    builder, meta = golden("data_builder")
    texts = meta["document_texts"]
    images = [
        Image.fromarray(builder[f"raw_image_{number}"].numpy())
        for number in meta["images_used"]["interleaved"]
    ]
    document = Document([texts[0], images[0], f"{texts[1]} {texts[2]}", images[1], texts[3]])
    batch = collate(
        [lay_out(document, official.tokenizer, official.queries, official.vision.patches)], pad=0
    )
    assert torch.equal(batch.ids, tensors["input_ids"])
    with torch.no_grad():
        embeddings = official.embed(batch, images)
        assert_close(embeddings, tensors["inputs_embeds"], atol=1e-4, rtol=0)
        assert_close(official.llm(embeddings), tensors["hidden_last"], atol=1e-4, rtol=0)
