"""Pictures out: the loop equals diffusers' pipeline, the losses the equations and official code."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from minidream.diffusion import (
    Decoder,
    DiffusionConfig,
    conditional_rows,
    coordinates,
    picture_noise,
)

TINY = Path(__file__).parent / "fixtures" / "tiny-a"
SCHEDULE = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)
# The schedule once more, from its definition: betas are squares of evenly spaced roots.
ALPHAS = torch.cumprod(
    1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0
).float()


def tiny_decoder(
    config=DiffusionConfig(eta=0.0), prediction_type="epsilon", places=False, spacing="trailing"
):
    """Random VAE (4 pixels to a cell) and U-Net of the smallest sizes; conditions are 12 wide."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8),
        down_block_types=["DownEncoderBlock2D"] * 3,
        norm_num_groups=2,
        up_block_types=["UpDecoderBlock2D"] * 3,
        latent_channels=4,
        sample_size=24,
        scaling_factor=0.4,
    )
    unet = UNet2DConditionModel(
        sample_size=6,
        in_channels=6 if places else 4,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        norm_num_groups=4,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=12,
    )
    scheduler = DDIMScheduler(**SCHEDULE, timestep_spacing=spacing, prediction_type=prediction_type)
    return Decoder(vae, unet, scheduler, nn.Identity(), config).eval()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------
# Sampling


@pytest.mark.parametrize("guidance_scale", [1.0, 4.5], ids=["condition alone", "guided"])
@pytest.mark.parametrize(
    "prediction_type, spacing", [("epsilon", "trailing"), ("v_prediction", "leading")]
)
def test_the_denoising_loop_is_diffusers_pipeline(guidance_scale, prediction_type, spacing):
    decoder = tiny_decoder(prediction_type=prediction_type, spacing=spacing)
    condition, null, latents = (
        normal(3, 5, 12, seed=1),
        normal(3, 5, 12, seed=2),
        normal(3, 4, 6, 6, seed=3),
    )
    pipeline = StableDiffusionPipeline(
        vae=decoder.vae,
        unet=decoder.unet,
        scheduler=DDIMScheduler.from_config(decoder.scheduler.config),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    arguments = dict(
        prompt_embeds=condition,
        negative_prompt_embeds=null,
        latents=latents,
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        eta=0.0,
    )
    wanted = pipeline(**arguments, output_type="latent").images
    sampled = decoder.sample(
        condition, null, latents, num_inference_steps=4, guidance_scale=guidance_scale
    )
    assert sampled.shape == (3, 4, 6, 6)
    assert_close(sampled, wanted, atol=1e-4, rtol=0)
    assert (sampled - latents).abs().max() > 0.1, "something was painted"
    pictures = pipeline(**arguments, output_type="pt").images
    assert_close(decoder.decode(sampled), pictures, atol=1e-4, rtol=0)


def test_guidance_goes_beyond_the_condition_away_from_the_null_condition():
    """The rule by hand, with a U-Net that only says which condition it was shown."""
    decoder = tiny_decoder()
    shown = []

    def predict(latents, timesteps, condition, mask=None):
        shown.append(condition[:, 0, 0].tolist())
        return condition[:, :1, :1, None].expand(latents.shape)

    decoder.predict = predict
    latents, ones = torch.zeros(1, 4, 6, 6), torch.ones(1, 5, 12)
    one_step = dict(num_inference_steps=1, latents=latents)
    guided = decoder.sample(3 * ones, 2 * ones, guidance_scale=5.0, **one_step)
    alone = decoder.sample((2 + 5 * (3 - 2)) * ones, None, guidance_scale=1.0, **one_step)
    assert shown == [[2.0, 3.0], [7.0]], (
        "null first, condition second; without guidance the condition alone"
    )
    assert_close(guided, alone)


def test_step_noise_is_used_if_and_only_if_eta_asks_for_it():
    condition, latents = normal(2, 5, 12, seed=1), normal(2, 4, 6, 6, seed=3)
    asked = []

    def step_noise(step):
        asked.append(step)
        return normal(2, 4, 6, 6, seed=100 + step)

    still = tiny_decoder().sample(condition, None, latents, 3, 1.0, step_noise)
    assert asked == []
    lively = tiny_decoder(DiffusionConfig(eta=1.0)).sample(
        condition, None, latents, 3, 1.0, step_noise
    )
    assert asked == [0, 1, 2]
    assert (still - lively).abs().max() > 0.1
    assert_close(
        tiny_decoder(DiffusionConfig(eta=1.0)).sample(condition, None, latents, 3, 1.0, step_noise),
        lively,
    )


def test_which_rows_are_conditional_is_known_to_the_painting_thread_alone():
    """A guided painting, and in the middle of it one without guidance; another thread looks on."""
    decoder, condition = tiny_decoder(), normal(2, 5, 12, seed=1)
    passes, elsewhere = [], []

    def look(*_):
        passes.append(conditional_rows.get())
        if len(passes) == 1:
            looker = Thread(target=lambda: elsewhere.append(conditional_rows.get()))
            looker.start()
            looker.join()
            decoder.sample(condition, None, normal(2, 4, 6, 6), 1, 1.0)
            passes.append(conditional_rows.get())

    decoder.unet.register_forward_pre_hook(look)
    decoder.sample(condition, -condition, normal(2, 4, 6, 6), 1, 3.0)
    everything, second_half = slice(0, None), slice(2, None)
    assert passes == [second_half, everything, second_half]
    assert elsewhere == [everything] and conditional_rows.get() == everything


def test_each_picture_has_noise_of_its_own():
    shape = (2, 3, 5)
    together, draw = picture_noise([7, 8, 11], shape)
    then, later = draw(), draw()
    assert together.shape == then.shape == (3, *shape)
    for row, seed in enumerate((7, 8, 11)):
        alone, draw_alone = picture_noise([seed], shape)
        assert torch.equal(alone[0], together[row])
        assert torch.equal(draw_alone()[0], then[row]) and torch.equal(draw_alone()[0], later[row])
    assert not torch.equal(together[0], together[1]) and not torch.equal(together[0], then[0])


# --------------------------------------------------------------------------------------------------
# Places, sizes, pictures in and out


def test_coordinates_by_hand():
    places = coordinates(torch.zeros(2, 4, 3, 5))  # not square, so that x and y cannot be exchanged
    assert places.shape == (2, 2, 3, 5)
    assert places[1, 0].tolist() == [[-1, -0.5, 0, 0.5, 1]] * 3, "x grows to the right"
    assert places[1, 1].tolist() == [[-1] * 5, [0] * 5, [1] * 5], "y grows down"


def inputs_of(module):
    """A list to which each call of the module adds its first input."""
    seen = []
    module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return seen


def test_only_a_unet_with_two_more_channels_gets_coordinates():
    for places in (False, True):
        decoder = tiny_decoder(places=places)
        assert decoder.has_coordinates is places
        seen = inputs_of(decoder.unet)
        latents = normal(2, 4, 6, 6)
        predicted = decoder.predict(latents, torch.tensor([3, 900]), normal(2, 5, 12))
        assert predicted.shape == (2, 4, 6, 6)
        expected = torch.cat([latents, coordinates(latents)], dim=1) if places else latents
        assert torch.equal(seen[0], expected)


def test_sizes_and_pictures_of_any_shape():
    decoder = tiny_decoder()
    assert decoder.latent_shape == (4, 6, 6) and decoder.image_size == 24
    wide = Image.new("RGB", (70, 30), "red")
    wide.paste("blue", (40, 0, 70, 30))
    latents = decoder.latents_of([wide, Image.new("L", (24, 24), 255)])
    assert latents.shape == (2, 4, 6, 6) and not latents.requires_grad
    with torch.no_grad():
        white = decoder.vae.encode(torch.ones(1, 3, 24, 24)).latent_dist.mean * 0.4
    assert_close(latents[1:], white, atol=1e-5, rtol=1e-5)


def test_decoding_undoes_the_scale_and_lands_in_the_unit_range():
    decoder = tiny_decoder()
    latents = 3 * normal(2, 4, 6, 6)
    with torch.no_grad():
        images = decoder.decode(latents)
        raw = decoder.vae.decode(latents / 0.4).sample
    assert images.shape == (2, 3, 24, 24) and images.dtype == torch.float32
    assert_close(images, ((raw + 1) / 2).clamp(0, 1))


# --------------------------------------------------------------------------------------------------
# The loss


def loss_of_nothing(decoder, latents, seed):
    """The loss if the U-Net always says 0, with the noise and timesteps that the seed draws."""
    decoder.predict = lambda noisy, timesteps, condition: torch.zeros_like(noisy)
    loss = decoder.loss(
        latents, torch.zeros(len(latents), 5, 12), torch.Generator().manual_seed(seed)
    )
    generator = torch.Generator().manual_seed(seed)
    return (
        loss,
        torch.randn(latents.shape, generator=generator),
        torch.randint(1000, (len(latents),), generator=generator),
    )


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [None, 5.0])
def test_loss_by_hand(prediction_type, gamma):
    latents = normal(7, 4, 3, 5, seed=4)
    decoder = tiny_decoder(DiffusionConfig(snr_gamma=gamma), prediction_type)
    loss, noise, timesteps = loss_of_nothing(decoder, latents, seed=9)
    kept = ALPHAS[timesteps].reshape(7, 1, 1, 1)
    target = (
        noise if prediction_type == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * latents
    )
    weights = torch.ones(7)
    if gamma:
        snr = (kept / (1 - kept)).flatten()
        assert snr.min() < gamma < snr.max(), "both sides of the bound occur"
        scale = snr if prediction_type == "epsilon" else snr + 1
        weights = torch.tensor([min(s, gamma) / s for s in scale.tolist()])
    expected = sum(weight * (one**2).mean() for weight, one in zip(weights, target)) / 7
    assert_close(loss, expected, atol=1e-5, rtol=1e-5)


def test_loss_shows_the_unet_the_noised_picture_and_vanishes_when_it_is_right():
    decoder = tiny_decoder()
    latents, generator = normal(3, 4, 6, 6, seed=4), torch.Generator().manual_seed(2)
    noise, timesteps = (
        torch.randn(latents.shape, generator=generator),
        torch.randint(1000, (3,), generator=generator),
    )
    kept = ALPHAS[timesteps].reshape(3, 1, 1, 1)

    def right(noisy, shown_timesteps, condition, mask=None):
        assert torch.equal(shown_timesteps, timesteps)
        assert_close(noisy, kept.sqrt() * latents + (1 - kept).sqrt() * noise, atol=1e-5, rtol=0)
        return noise

    decoder.predict = right
    assert decoder.loss(latents, torch.zeros(3, 5, 12), torch.Generator().manual_seed(2)) == 0


def test_gradient_reaches_the_condition_through_a_frozen_unet():
    decoder = tiny_decoder().requires_grad_(False)
    condition = normal(2, 5, 12).requires_grad_(True)
    decoder.loss(normal(2, 4, 6, 6), condition, torch.Generator().manual_seed(0)).backward()
    assert condition.grad.abs().sum(dim=-1).min() > 0, "every query of every picture"
    assert all(parameter.grad is None for parameter in decoder.parameters())


# --------------------------------------------------------------------------------------------------
# The official code on its tiny checkpoint


@pytest.fixture(scope="module")
def official():
    """Our decoder with the tiny official weights: ancestral sampling with leading spacing."""
    weights = torch.load(TINY / "checkpoint/stable_diffusion_head.bin", weights_only=True)
    configs = TINY / "component_configs/diffusion"
    settings = {
        part: json.loads((configs / part / "config.json").read_bytes()) for part in ("vae", "unet")
    }
    vae, unet = (
        AutoencoderKL.from_config(settings["vae"]),
        UNet2DConditionModel.from_config(settings["unet"]),
    )
    projector = nn.Linear(64, 48, bias=False)
    for name, module in (("vae.", vae), ("unet.", unet), ("projector.projector.", projector)):
        module.load_state_dict(
            {
                key.removeprefix(name): value
                for key, value in weights.items()
                if key.startswith(name)
            }
        )
    # DDPM steps, as in the official code, end without noise: DDIM calls that set_alpha_to_one.
    scheduler = DDIMScheduler(**SCHEDULE | dict(set_alpha_to_one=True), timestep_spacing="leading")
    return Decoder(vae, unet, scheduler, projector, DiffusionConfig(eta=1.0)).eval()


HEAD = load_file(TINY / "golden/diffusion_head.safetensors")


@torch.no_grad()
def test_official_unet_and_vae(official):
    predicted = official.predict(
        HEAD["noisy_latents"], HEAD["timesteps"], official.projector(HEAD["encoder_hidden_states"])
    )
    assert_close(predicted, HEAD["unet_pred"], atol=1e-4, rtol=0)
    assert_close(
        official.encode_images(HEAD["vae.image"]), 0.18215 * HEAD["vae.mean"], atol=1e-4, rtol=0
    )
    decoded = official.decode(HEAD["latents"][:1])
    assert_close(decoded, (HEAD["vae.decoded"] / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "prediction_type, gamma, expected",
    [
        ("epsilon", None, "loss_mse"),
        ("epsilon", 5.0, "loss_min_snr5"),
        ("v_prediction", None, "loss_mse_v"),
    ],
)
@torch.no_grad()
def test_official_losses(official, monkeypatch, prediction_type, gamma, expected):
    scheduler = DDIMScheduler(**SCHEDULE, prediction_type=prediction_type)
    decoder = Decoder(
        official.vae,
        official.unet,
        scheduler,
        official.projector,
        replace(official.config, snr_gamma=gamma),
    )
    # The recorded draws in the place of new ones.
    monkeypatch.setattr(torch, "randn", lambda *_, **__: HEAD["noise"])
    monkeypatch.setattr(torch, "randint", lambda *_, **__: HEAD["timesteps"])
    loss = decoder.loss(HEAD["latents"], HEAD["condition"], torch.Generator())
    assert_close(loss, HEAD[expected].squeeze(), atol=1e-4, rtol=0)
    assert_close(scheduler.alphas_cumprod, HEAD["alphas_cumprod"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["empty_negative", "negative"])
@torch.no_grad()
def test_official_samples_replayed_with_their_noise(official, case):
    golden = {
        key.removeprefix(f"{case}."): value
        for key, value in load_file(TINY / "golden/sampling.safetensors").items()
        if key.startswith(f"{case}.")
    }
    timesteps = []
    handle = official.denoising_step.register_forward_hook(
        lambda module, inputs, output: timesteps.append(inputs[2].item())
    )
    painted = official.sample(
        official.projector(golden["prompt_embeds"]),
        official.projector(golden["negative_prompt_embeds"]),
        golden["init_latents"],
        num_inference_steps=5,
        guidance_scale=3.5,
        step_noise=lambda step: golden["step_noise"][step],
    )
    handle.remove()
    assert timesteps == golden["timesteps"].tolist()
    assert_close(painted, golden["final_latents"], atol=1e-3, rtol=0)
    assert_close(official.decode(painted), golden["image"], atol=1e-3, rtol=0)
