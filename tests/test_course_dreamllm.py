"""The course's one-file DreamLLM is the package's model: same states, losses, pictures, answers."""

import random

import pytest
import torch

import minidream
from minidream.course import dreamllm
from minidream.images import to_tensor
from minidream.tokenizers import ToyTokenizer
from minidream.trainer import lessons
from minidream.vision import clip_pixels
from minidream.weights import toy
from minidream.world import sample_edit
from minidream.world.language import VOCABULARY


@pytest.fixture(scope="module")
def model():
    """An untrained toy, with some noise on every parameter, so that none is 0 or 1."""
    torch.manual_seed(0)
    model = toy.new_model(ToyTokenizer(VOCABULARY)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def own(model):
    """The one-file model with the same weights."""
    decoder, config = model.decoder, model.llm.config
    llm = dreamllm.LLM(
        config.vocab_size,
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.intermediate_size,
    )
    llm.load_state_dict(model.llm.state_dict(), strict=True)
    alphas = decoder.scheduler.alphas_cumprod
    own = dreamllm.DreamLLM(llm, model.vision.tower, decoder.vae, decoder.unet, alphas)
    own.see.load_state_dict(model.vision.projector.state_dict())
    own.condition.load_state_dict(decoder.projector.projector.state_dict())
    own.dream_queries.data = model.dream_queries[0].clone()
    return own.requires_grad_(False)


@pytest.fixture(scope="module")
def document():
    """A given picture, an instruction, and a picture to paint."""
    return lessons.document_of(sample_edit(random.Random(4)), toy.IMAGE_SIZE)


def words(model, text, learned=False):
    return ("words", model.tokenizer.encode(text), learned)


def prompt_of(model, document):
    """`<s> <im_start> patches <im_end> words <dream_start> queries`, as the file takes it."""
    special = model.tokenizer.special
    pixels = clip_pixels(to_tensor([document.images[0]]))[0]
    return [
        ("words", [special.bos, special.im_start], False),
        ("read", pixels),
        ("words", [special.im_end], False),
        words(model, document.items[1]),
        ("words", [special.dream_start], False),
        ("dream",),
    ]


def test_states_at_the_dream_queries_are_the_same(model, own, document):
    prompt = minidream.Document(document.items[:2], targets=[])
    expected = model.encode(prompt)
    *_, (states,) = own.states(prompt_of(model, document))
    torch.testing.assert_close(states[None], expected, atol=1e-5, rtol=1e-4)


def test_both_losses_are_the_same(model, own):
    decoder = model.decoder
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(3, *decoder.latent_shape, generator=draw)
    states = torch.randn(3, model.queries, model.llm.config.hidden_size, generator=draw)
    expected = decoder.loss(latents, decoder.projector(states), torch.Generator().manual_seed(2))
    draw = torch.Generator().manual_seed(2)
    noise = torch.randn(latents.shape, generator=draw)
    timesteps = torch.randint(1000, (3,), generator=draw)
    found = own.denoising_loss(latents, states, noise, timesteps)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)

    text = minidream.Document(["a large red star. the star grows."])
    special = model.tokenizer.special
    items = [
        ("words", [special.bos], False),
        words(model, text.text, learned=True),
        ("words", [special.eos], True),
    ]
    hidden, labels, _ = own.states(items)
    expected = model.loss(text).language
    torch.testing.assert_close(own.language_loss(hidden, labels), expected, atol=1e-5, rtol=1e-5)


def test_the_same_noise_becomes_the_same_picture(model, own, document):
    prompt = minidream.Document(document.items[:2], targets=[])
    noise = torch.randn(model.decoder.latent_shape, generator=torch.Generator().manual_seed(3))
    expected = model.dream(prompt, latents=noise[None], output_type="latent")
    special = model.tokenizer.special
    empty = [("words", [special.bos, special.dream_start], False), ("dream",)]
    found = own.dream(prompt_of(model, document), empty, noise)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_the_same_words_are_written(model, own):
    question = "a large red star. what is there now?"
    special = model.tokenizer.special
    written = own.answer(
        [
            ("words", [special.bos], False),
            words(model, f"question: {question} answer:"),
        ],
        special.eos,
        most=6,
    )
    reply = model.chat([question], max_new_tokens=6)
    assert model.tokenizer.decode(written).startswith(reply) and len(written) <= 6


def test_gradients_reach_what_learns_and_nothing_else(model, own, document):
    own.requires_grad_(True)
    for frozen in (own.tower, own.vae, own.unet):
        frozen.requires_grad_(False)
    *_, (states,) = own.states(prompt_of(model, document))
    latents = model.decoder.latents_of([document.images[1]])
    own.denoising_loss(
        latents, states[None], torch.randn_like(latents), torch.tensor([400])
    ).backward()
    reached = {name.split(".")[0] for name, each in own.named_parameters() if each.grad is not None}
    assert reached == {"llm", "see", "dream_queries", "condition"}
    own.requires_grad_(False)
