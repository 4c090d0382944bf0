"""The loaded model computes what the official code computed on its tiny checkpoint, group by group.

Ids are equal; states, attention, predictions and losses agree to 1e-4, sampled pictures to 1e-3.
The other recorded results are compared in the tests of the file that computes them: text
(test_llm), image embeddings (test_vision) and layouts (test_documents).
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from einops import rearrange
from models_shared import tiny_official
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

import minidream
from minidream import diffusion, generate, probe
from minidream import dream_queries as dreams
from minidream import llm as llm_module
from minidream import model as model_module
from minidream.diffusion import Decoder
from minidream.documents import Document, Layout, collate, lay_out, turn_layout
from minidream.generate import Reader
from minidream.images import fit_square, to_tensor
from minidream.llm import Cache

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
MANIFEST = json.loads((TINY / "manifest.json").read_bytes())["golden"]


def golden(group: str) -> dict:
    return load_file(TINY / f"golden/{group}.safetensors")


def meta(group: str) -> dict:
    return MANIFEST[f"{group}.safetensors"]["meta"]


def raw_images(group: str) -> list[Image.Image]:
    return [
        Image.fromarray(tensor.numpy())
        for name, tensor in sorted(golden(group).items())
        if name.startswith("raw_image_")
    ]


def assert_near(ours, theirs, atol=1e-4):
    assert_close(ours, theirs, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def official():
    return tiny_official()


def attentions(model, embeddings, mask=None, rows=None):
    """Hidden states after the final norm, and the attention of some query rows (None: all).

    Returns:
        The hidden states, and attention weights of shape (layers, batch, heads, rows, inputs).
    """
    with probe.watch_input(
        model, torch.arange(embeddings.shape[1]) if rows is None else rows
    ) as recorded:
        hidden = model.llm(embeddings, mask)
    return hidden, torch.stack(recorded)


# --------------------------------------------------------------------------------------------------
# Reading


@torch.no_grad()
def test_an_image_and_a_question(official):
    group, images = golden("image_text"), raw_images("image_text")
    states = official.vision.tower(
        pixel_values=group["pixel_values"], output_hidden_states=True
    ).hidden_states[official.vision.select_layer]
    assert_near(states, group["clip_hidden_select"])
    layout = lay_out(
        Document([images[0], meta("image_text")["question"]]),
        official.tokenizer,
        official.queries,
        official.vision.patches,
    )
    batch = collate([layout], pad=0)
    assert (
        batch.ids[:, :-1].tolist() == group["input_ids"].tolist()
    )  # the official prompt has no </s>
    embeddings = official.embed(batch, images[:1])[:, :-1]
    assert_near(embeddings, group["inputs_embeds"])
    hidden, weights = attentions(official, embeddings)
    assert_near(hidden, group["hidden_last"])
    assert_near(weights, group["attentions"])
    assert_near(official.llm.logits(hidden), group["logits"])


@torch.no_grad()
def test_a_document_in_one_pass(official):
    group = golden("interleaved_forward")
    hidden, weights = attentions(official, group["inputs_embeds"])
    assert_near(weights.mean(dim=2), group["attentions_mean"])
    assert_near(hidden, group["hidden_last"])


@pytest.mark.parametrize("name", ["prompt", "empty"])
@torch.no_grad()
def test_a_prompt_and_its_queries(official, name):
    """Two passes with a cache, as the official pipeline makes them, and our one pass."""
    group, special = golden("dream_prompt"), official.tokenizer.special
    text = meta("dream_prompt")["prompt"] if name == "prompt" else ""
    ids = torch.tensor([[special.bos, *official.tokenizer.encode(text)]])
    assert torch.equal(ids, group[f"{name}.input_ids"])
    block = official.llm.embed_tokens(
        torch.tensor([[special.dream_start] + [special.im_patch] * 8 + [special.dream_end]])
    )
    block = dreams.insert(block, official.dream_queries, [(0, 1)])
    assert_near(block, group["dream_block_embeds"])

    cache, states = Cache(), []
    with probe.watch_input(official, torch.arange(ids.shape[1])) as recorded:
        official.llm(official.llm.embed_tokens(ids), cache=cache)
    assert_near(torch.stack(recorded), group[f"{name}.prefix_attentions"])
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: states.append(inputs[0]))
        for layer in official.llm.layers
    ]
    with probe.watch_input(official, torch.arange(10)) as recorded:
        states.append(official.llm(block, cache=cache))
    for hook in hooks:
        hook.remove()
    assert_near(torch.stack(recorded), group[f"{name}.dream_attentions"])
    assert_near(torch.stack(states), group[f"{name}.dream_hidden_states"])
    assert_near(states[-1][:, 1:9], group[f"{name}.prompt_embeds"])

    trace = probe.dream_attention(official, text)
    inputs = len(trace.inputs)
    assert inputs == ids.shape[1] + 9, "up to the last query"
    assert_near(trace.weights, group[f"{name}.dream_attentions"][:, 0, :, 1:9, :inputs])
    assert group[f"{name}.dream_attentions"][:, 0, :, 1:9, inputs:].abs().max() == 0


@torch.no_grad()
def test_the_training_layout_and_the_null_condition_of_training(official):
    group, special = golden("dream_prompt"), official.tokenizer.special
    layout = lay_out(
        Document([meta("dream_prompt")["prompt"], Image.new("RGB", (9, 9))]),
        official.tokenizer,
        8,
        16,
        read_last=False,
    )
    batch = collate([layout], pad=0)
    assert torch.equal(batch.ids, group["train_layout.input_ids"])
    hidden = official.llm(official.embed(batch, []))
    assert_near(dreams.gather(hidden, 8, batch.queries), group["train_layout.query_hidden"])
    # The null condition of the official training has placeholders in place of the dream queries;
    # see `drop_conditions`.
    ids = torch.tensor(
        [
            [special.bos, special.dream_start]
            + [special.im_patch] * 8
            + [special.dream_end, special.eos]
        ]
    )
    assert torch.equal(ids, group["train_uncond.input_ids"])
    assert_near(
        official.llm(official.llm.embed_tokens(ids))[:, 2:10], group["train_uncond.query_hidden"]
    )


# --------------------------------------------------------------------------------------------------
# Padding


def padded(official, side):
    """The recorded prompts in one batch; with padding on the left, queries follow each prompt."""
    layouts = []
    for prompt in meta("padding")["prompts"]:
        layout = Layout()
        words = official.tokenizer.encode(prompt)
        layout.add([official.tokenizer.special.bos, *words], learned=False)
        if side == "left":
            layout.add_dream(0, official.tokenizer.special, 8, learned=False)
        layouts.append(layout)
    return collate(layouts, official.tokenizer.special.pad, side=side)


@torch.no_grad()
def test_padding_on_the_left(official):
    group, batch = golden("padding"), padded(official, "left")
    assert torch.equal(batch.ids[:, :-10], group["left.input_ids"])
    assert torch.equal(batch.mask[:, :-10].long(), group["left.attention_mask"])
    hidden, weights = attentions(
        official, official.embed(batch, []), batch.mask, torch.arange(21, 31)
    )
    assert_near(weights, group["left.dream_attentions"])
    assert_near(hidden[:, 22:30], group["left.prompt_embeds"])


@torch.no_grad()
def test_padding_on_the_right_differs_by_its_positions_alone(official, monkeypatch):
    """The official pipeline counts the padding as positions, which leaves a gap before the queries.

    Here only tokens count as positions.
    """
    group, batch = golden("padding"), padded(official, "right")
    assert torch.equal(batch.ids, group["right.input_ids"]) and torch.equal(
        batch.mask.long(), group["right.attention_mask"]
    )
    angles = llm_module.rotary_angles
    for positions in (group["position_ids.prefix"], group["position_ids.dream"]):
        assert positions.tolist() == [
            list(range(positions.min(), positions.min() + positions.shape[1]))
        ]
    first = group["position_ids.dream"].min().item()
    assert first == 21, "after the padded length"

    def pass_of(positions, embeddings, mask, cache):
        monkeypatch.setattr(
            llm_module, "rotary_angles", lambda _, *rest: angles(positions.expand(3, -1), *rest)
        )
        with probe.watch_input(official, torch.arange(embeddings.shape[1])) as recorded:
            return official.llm(embeddings, mask, cache), torch.stack(recorded)

    cache, block = Cache(), golden("dream_prompt")["dream_block_embeds"].expand(3, -1, -1)
    pass_of(group["position_ids.prefix"], official.embed(batch, []), batch.mask, cache)
    hidden, weights = pass_of(
        group["position_ids.dream"], block, torch.ones(3, 10, dtype=torch.bool), cache
    )
    assert_near(weights, group["right.dream_attentions"])
    assert_near(hidden[:, 1:9], group["right.prompt_embeds"])


# --------------------------------------------------------------------------------------------------
# Painting


@torch.no_grad()
def test_the_vae_and_its_samples(official, monkeypatch):
    group = golden("diffusion_head")
    posterior = official.decoder.vae.encode(group["vae.image"]).latent_dist
    assert_near(posterior.mean, group["vae.mean"])
    assert_near(posterior.logvar, group["vae.logvar"])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: group["vae.noise"])
    assert_near(
        official.decoder.encode_images(group["vae.image"], torch.Generator()), group["vae.latents"]
    )


@torch.no_grad()
def test_where_latent_cells_look_among_the_queries(official):
    group, decoder = golden("diffusion_head"), official.decoder
    with probe.watch_image(official, heads=True) as maps:
        predicted = decoder.predict(group["noisy_latents"], group["timesteps"], group["condition"])
    assert_near(predicted, group["unet_pred"])
    theirs = [
        tensor for name, tensor in sorted(group.items()) if name.startswith("unet_cross_attention.")
    ]
    assert len(theirs) == len(maps.layers) == 4
    for name, expected in zip(sorted(maps.layers), theirs):
        assert_near(
            rearrange(
                maps.layers[name],
                "1 batch heads queries height width -> batch heads (height width) queries",
            ),
            expected,
        )


@pytest.mark.parametrize("case", ["empty_negative", "negative"])
def test_whole_pictures_from_prompts(official, case, monkeypatch):
    """From words to pixels, with the recorded noise in the place of our seeds'."""
    group = {
        name.removeprefix(f"{case}."): tensor
        for name, tensor in golden("sampling").items()
        if name.startswith(f"{case}.")
    }
    said = meta("sampling")
    negative = said["negative"] if case == "negative" else None
    assert_near(official.encode(said["prompts"]), group["prompt_embeds"])
    assert_near(
        official.encode([negative or ""]).expand(2, -1, -1), group["negative_prompt_embeds"]
    )
    monkeypatch.setattr(
        diffusion,
        "picture_noise",
        lambda seeds, shape: (group["init_latents"], lambda step: group["step_noise"][step]),
    )
    timesteps, steps = [], []

    def watched(module, inputs, output):
        timesteps.append(inputs[2].item())
        steps.append(output.prev_sample)

    handle = official.decoder.denoising_step.register_forward_hook(watched)
    options = dict(
        negative_prompt=negative,
        num_inference_steps=said["num_inference_steps"],
        guidance_scale=said["guidance_scale"],
    )
    assert_near(
        torch.stack(official.dream(said["prompts"], output_type="latent", **options)),
        group["final_latents"],
        atol=1e-3,
    )
    handle.remove()
    assert_near(torch.stack(steps), group["step_latents"], atol=1e-3)
    assert timesteps == group["timesteps"].tolist()
    assert_near(
        torch.stack(official.dream(said["prompts"], output_type="pt", **options)),
        group["image"],
        atol=1e-3,
    )


# --------------------------------------------------------------------------------------------------
# Writing


@torch.no_grad()
def test_greedy_words_after_an_image(official):
    group, reader = golden("generation"), Reader(official)
    layout = Layout(group["image.input_ids"][0].tolist(), [-100] * 29, patches=[(0, 2)])
    image = raw_images("image_text")[0]
    assert_near(official.vision.pixels([image]), group["image.pixel_values"])
    assert layout.ids[1] == official.tokenizer.special.im_start
    reader.read(layout, [image])
    said = []
    for _ in range(12):
        said.append(reader.next_logits(()).argmax().item())
        reader.read_token(said[-1])
    assert layout.ids + said == group["image.output_ids"][0].tolist()


def test_words_and_a_picture_in_one_breath(official, monkeypatch):
    """The picture is the one that `dream` paints from the same words with the same seed.

    The official repository has no loop that writes and paints, so there is nothing recorded.
    """
    special, words = official.tokenizer.special, official.tokenizer.encode("the moon is bright.")
    script = [*words, special.dream_start, *official.tokenizer.encode("two birds"), special.eos]
    monkeypatch.setattr(generate, "choose", lambda *_: script.pop(0))
    document = official.write("A small cat,", seed=7, num_inference_steps=2)
    assert document.items[::2] == [
        "A small cat, the moon is bright.",
        "two birds",
    ] and document.targets == (0,)
    alone = official.dream(document.items[0], seed=7, num_inference_steps=2)
    assert_near(to_tensor(document.images), to_tensor([alone]), atol=1.5 / 255)


@pytest.mark.parametrize(
    "kind, turn",
    [
        ("conv_image", [Image.new("RGB", (9, 9)), "What is in the image?"]),
        ("conv_dream", "A photo of a red dog on the grass."),
    ],
)
def test_a_turn_is_laid_out_as_conversations_are_in_training(official, kind, turn):
    group = golden("data_builder")
    asked, _ = turn_layout(official, turn)
    ids, labels = group[f"{kind}.input_ids"].tolist(), group[f"{kind}.labels"].tolist()
    answer = official.tokenizer.encode(meta("data_builder")["conv_assistant"])
    assert ids[: len(asked.ids) + len(answer)] == asked.ids + answer
    assert (
        set(labels[1 : len(asked.ids)]) == {-100}
        and labels[len(asked.ids) : len(asked.ids) + len(answer)] == answer
    )


def test_documents_that_are_only_painted(official):
    """An official "creation only" document: as a joint one, without the images that are read."""
    group, (first, second, third, fourth) = (
        golden("data_builder"),
        meta("data_builder")["document_texts"],
    )
    special, encode, layout = official.tokenizer.special, official.tokenizer.encode, Layout()
    layout.add([special.bos], learned=False)
    for number, text in enumerate((first, f"{second} {third}")):
        layout.add(encode(text), learned=True)
        layout.add_dream(number, special, 8, learned=True)
    layout.add(encode(fourth) + [special.eos], learned=True)
    assert layout.ids == group["interleaved_creation_only.input_ids"].tolist()
    assert layout.labels[1:] == group["interleaved_creation_only.labels"][1:].tolist()


def test_pixels_of_the_data_builder(official):
    group, images, used = (
        golden("data_builder"),
        raw_images("data_builder"),
        meta("data_builder")["images_used"],
    )
    assert_near(
        official.vision.pixels([images[number] for number in used["i2t"]]), group["i2t.images"]
    )
    targets = [images[number] for number in used["conv_dream"]]
    assert_near(official.vision.pixels(targets), group["conv_dream.images"])
    assert_near(
        to_tensor(
            [
                fit_square(image, official.decoder.image_size, Image.Resampling.BILINEAR)
                for image in targets
            ]
        )
        * 2
        - 1,
        group["conv_dream.images_dm"],
    )


# --------------------------------------------------------------------------------------------------
# Learning

TRAINING = golden("training")
OPTIONS = {
    "interleaved_min_snr": dict(snr_gamma=5.0),
    "interleaved_noise_offset": dict(noise_offset=0.1),
    "interleaved_input_perturbation": dict(input_perturbation=0.1),
    "interleaved_v_prediction_min_snr": dict(snr_gamma=5.0),
}


@pytest.fixture
def learner(tmp_path):
    """A function of a case: the checkpoint, loaded with the case's options in its configs.

    Its trained parts require gradients.
    """

    def load(case):
        folder, components = (
            Path(shutil.copytree(TINY / name, tmp_path / name))
            for name in ("checkpoint", "component_configs")
        )
        config = json.loads((folder / "config.json").read_bytes())
        config["plugins_init_kwargs"]["stable_diffusion_head"] |= OPTIONS.get(case, {})
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        if "v_prediction" in case:
            path = components / "diffusion/scheduler/scheduler_config.json"
            path.write_text(
                json.dumps(json.loads(path.read_bytes()) | {"prediction_type": "v_prediction"}),
                encoding="utf-8",
            )
        model = minidream.load(folder, device="cpu", component_configs=components)
        for part in (
            model.llm,
            model.vision.projector,
            model.decoder.projector,
            model.dream_queries,
        ):
            part.requires_grad_(True)
        return model

    return load


def layouts_of(model, case):
    """Layouts and documents of a case."""
    images, said = raw_images("data_builder"), meta("data_builder")
    first, second, third, fourth = said["document_texts"]
    joint = Document([first, images[0], f"{second} {third}", images[1], fourth])
    sizes = dict(tokenizer=model.tokenizer, queries=8, patches=16)
    kinds = {
        "t2i": (Document([said["caption"], images[0]]), dict(learn_text=False, read_last=False)),
        "i2t": (Document([images[0], said["caption"]]), {}),
        "interleaved": (joint, {}),
    }
    wanted = ["t2i", "i2t", "interleaved"] if case == "mixed_batch" else [case.split("_")[0]]
    documents = [kinds[kind][0] for kind in wanted]
    return [lay_out(kinds[kind][0], **sizes, **kinds[kind][1]) for kind in wanted], documents


def replay(monkeypatch, model, case):
    """Every random draw of the official run in the place of ours, in the official order."""
    names = ("vae_noise", "noise", "offset_noise", "input_perturbation_noise")
    draws = [TRAINING[f"{case}.{name}"] for name in names if f"{case}.{name}" in TRAINING]

    def randn(shape, **_):
        assert tuple(shape) == tuple(draws[0].shape)
        return draws.pop(0)

    monkeypatch.setattr(torch, "randn", randn)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: TRAINING[f"{case}.timesteps"])
    # We train on the mean of the VAE's posterior; the official code draws from it.
    monkeypatch.setattr(
        model.decoder,
        "encode_images",
        lambda images: Decoder.encode_images(model.decoder, images, torch.Generator()),
    )
    return draws


CASES = sorted({name.split(".")[0] for name in TRAINING})


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients(learner, case, monkeypatch):
    model = learner(case)
    if (
        case == "interleaved_cfg_drop"
    ):  # to the null condition of the official training, which is not ours
        dropped = TRAINING[f"{case}.cfg_drop_mask"].reshape(-1, 1, 1).bool()
        null = golden("dream_prompt")["train_uncond.query_hidden"]
        monkeypatch.setattr(
            model, "drop_conditions", lambda states, generator: torch.where(dropped, null, states)
        )
    draws, seen = replay(monkeypatch, model, case), {}
    predict = model.decoder.predict

    def watched(noisy, timesteps, condition):
        seen.update(
            noisy_latents=noisy, condition=condition, unet_pred=predict(noisy, timesteps, condition)
        )
        return seen["unet_pred"]

    monkeypatch.setattr(model.decoder, "predict", watched)
    layouts, documents = layouts_of(model, case)
    losses = model.loss_of_layouts(layouts, documents, torch.Generator())
    assert not draws or case == "i2t", "every recorded draw was asked for"
    assert_near(losses.language, TRAINING[f"{case}.lm_loss"].squeeze())
    assert_near(losses.diffusion, TRAINING[f"{case}.vm_loss"].squeeze())
    assert_near(
        losses.total, TRAINING[f"{case}.loss"].squeeze(), atol=1e-3
    )  # ten times one, and the other
    for name, tensor in seen.items():
        assert_near(tensor, TRAINING[f"{case}.{name}"])
    if f"{case}.batch.input_ids" in TRAINING:
        batch = collate(layouts, model.tokenizer.special.pad)
        assert torch.equal(batch.ids, TRAINING[f"{case}.batch.input_ids"])
        images = [documents[0].images[number] for number, _ in layouts[0].patches]
        assert_near(
            model.llm.logits(model.llm(model.embed(batch, images))), TRAINING[f"{case}.logits"]
        )
    if f"{case}.grad.dream_queries" in TRAINING:
        losses.total.backward()
        trained = {
            "dream_queries": model.dream_queries,
            "condition_projector.weight": model.decoder.projector.projector.weight,
            "visual_projector.weight": model.vision.projector.weight,
            "visual_projector.bias": model.vision.projector.bias,
            "embed_tokens.weight": model.llm.embed_tokens.weight,
            "lm_head.weight": model.llm.lm_head.weight,
            "layers.0.q_proj.weight": model.llm.layers[0].self_attn.q_proj.weight,
        }
        for name, parameter in trained.items():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert_near(gradient, TRAINING[f"{case}.grad.{name}"])


@pytest.mark.parametrize(
    "schedule, scale", [("none", 1.0), ("l1_norm", 11.0), ("l2_norm", 101**0.5)]
)
def test_the_weighted_sum_may_be_scaled(schedule, scale):
    assert model_module.DreamConfig(loss_scale_schedule=schedule).loss_scale == pytest.approx(scale)
