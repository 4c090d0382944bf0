"""The exercises of notebook 04: noise, guidance, and the steps of training and of sampling."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from ..exercises import Exercise
from .cross_attention import CROSS_ATTENTION

LATENTS = "batch channels height width"
# Shares of the clean latents in noisy ones, as a schedule of five timesteps.
SCHEDULE = torch.tensor([0.95, 0.7, 0.45, 0.2, 0.05])


def random_latents(seed: int, count: int = 2) -> Tensor:
    """Numbers drawn from N(0, 1), shape (count, 2, 4, 3, 5): each one is a batch of latents."""
    return torch.randn(count, 2, 4, 3, 5, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------
# 04.1: the clean latents


def clean_latents(noisy: Tensor, noise_pred: Tensor, alpha_cumprod: Tensor) -> Tensor:
    """What is left of noisy latents without the predicted noise, at the scale of clean latents.

    diffusers' schedulers call it `pred_original_sample`.
    """
    return (noisy - (1 - alpha_cumprod).sqrt() * noise_pred) / alpha_cumprod.sqrt()


def noisy_latents() -> list[tuple]:
    """Noisy latents, a prediction, and how much of the clean ones is left."""
    return [(*random_latents(seed), share) for seed, share in enumerate(SCHEDULE[[0, 2, 4]])]


# --------------------------------------------------------------------------------------------------
# 04.2: guidance


def guidance(null: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: from the null prediction through the conditional one, and beyond.

    It is a line of `minidream.diffusion.Decoder.sample`.
    """
    return null + scale * (conditional - null)


def two_predictions() -> list[tuple]:
    """Two predictions and a scale."""
    return [(*random_latents(4), scale) for scale in (0.0, 1.0, 3.0, 7.5)]


# --------------------------------------------------------------------------------------------------
# 04.4: a step of training


def denoising_loss(
    predict: Callable, latents: Tensor, timesteps: Tensor, noise: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """The loss of one step of training: how well the noise is predicted that was added.

    Args:
        predict: the U-Net: noisy latents and timesteps to a prediction of the noise.
        latents: clean, shape (batch, channels, height, width).
        timesteps: shape (batch,), indices into `alphas_cumprod`.
        noise: of the shape of `latents`.
        alphas_cumprod: share of the clean latents at each timestep, in [0, 1].

    Returns:
        A scalar. `minidream.diffusion.Decoder.loss` also draws noise and timesteps.
    """
    share = rearrange(alphas_cumprod[timesteps], "batch -> batch 1 1 1")
    noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
    return (predict(noisy, timesteps) - noise).square().mean()


def unet_stand_in(noisy: Tensor, timesteps: Tensor) -> Tensor:
    """A fixed function in place of a U-Net; it depends on both arguments."""
    return noisy.tanh() * rearrange(timesteps / 5, "batch -> batch 1 1 1") + noisy / 2


def training_batches() -> list[tuple]:
    """The U-Net's stand-in, latents, timesteps of each picture, noise, and the schedule."""
    return [
        (unet_stand_in, latents, torch.tensor(timesteps), noise, SCHEDULE)
        for timesteps, (latents, noise) in zip(
            ([1, 3], [4, 0], [2, 1]), (random_latents(seed) for seed in (7, 8, 9))
        )
    ]


def loss_with(
    target: str = "noise",
    roots: bool = True,
    own: bool = True,
    noised: bool = True,
    error: Callable = torch.square,
) -> Callable:
    """`denoising_loss` with one thing changed."""

    def loss(predict, latents, timesteps, noise, alphas_cumprod):
        share = rearrange(alphas_cumprod[timesteps], "batch -> batch 1 1 1")
        share = share if own else share[:1]
        clean, noisy = (share.sqrt(), (1 - share).sqrt()) if roots else (share, 1 - share)
        inputs = clean * latents + noisy * noise if noised else latents
        wanted = {"noise": noise, "latents": latents, "inputs": inputs}[target]
        return error(predict(inputs, timesteps) - wanted).mean()

    return loss


def exchanged_shares(predict, latents, timesteps, noise, alphas_cumprod) -> Tensor:
    """Noise in place of latents, and the other way round."""
    return denoising_loss(predict, latents, timesteps, noise, 1 - alphas_cumprod)


# --------------------------------------------------------------------------------------------------
# 04.5: a step of sampling


def ddim_step(noisy: Tensor, noise_pred: Tensor, alpha_cumprod: Tensor, earlier: Tensor) -> Tensor:
    """A step of DDIM without fresh noise (eta 0): the same noise again, but less of it.

    Args:
        noisy, noise_pred: latents and the predicted noise, of one shape.
        alpha_cumprod: share of the clean latents at this timestep, in (0, 1).
        earlier: the same at the timestep that comes next in sampling; it is larger.

    Returns:
        Less noisy latents. (Song et al. 2021, equation 12.)
    """
    clean = (noisy - (1 - alpha_cumprod).sqrt() * noise_pred) / alpha_cumprod.sqrt()
    return earlier.sqrt() * clean + (1 - earlier).sqrt() * noise_pred


def sampling_steps() -> list[tuple]:
    """Latents, predicted noise, and the shares before and after the step."""
    pairs = zip(SCHEDULE.flip(0)[:4], SCHEDULE.flip(0)[1:])
    return [(*random_latents(10 + i), now, then) for i, (now, then) in enumerate(pairs)]


# --------------------------------------------------------------------------------------------------
# 04.6: a guided prediction


def guided_prediction(
    predict: Callable, latents: Tensor, condition: Tensor, null_condition: Tensor, scale: float
) -> Tensor:
    """The prediction of a step with classifier-free guidance.

    Args:
        predict: the U-Net: latents and conditions, one for each, to predictions.
        latents: shape (batch, channels, height, width).
        condition: shape (batch, queries, dim).
        null_condition: shape (1, queries, dim), one for all.
        scale: at most 1 means no guidance, the condition alone.

    Returns:
        The shape of `latents`. It is what `minidream.diffusion.Decoder.sample` does in each step.
    """
    if scale <= 1:
        return predict(latents, condition)
    conditions = torch.cat([null_condition.expand_as(condition), condition])
    null, conditional = predict(torch.cat([latents, latents]), conditions).chunk(2)
    return null + scale * (conditional - null)


def conditional_stand_in(latents: Tensor, condition: Tensor) -> Tensor:
    """A fixed function in place of a U-Net; ValueError unless there is a condition for each."""
    if len(latents) != len(condition):
        raise ValueError(f"{len(latents)} latents need as many conditions, not {len(condition)}")
    return latents.tanh() * rearrange(condition.mean(dim=(1, 2)), "batch -> batch 1 1 1")


def guided_steps() -> list[tuple]:
    """The U-Net's stand-in, latents, conditions and scales, of which two mean no guidance."""
    draw, cases = torch.Generator().manual_seed(14), []
    for scale in (3.0, 7.5, 1.0, 0.5):
        latents = torch.randn(2, 4, 3, 5, generator=draw)
        condition, null = (torch.randn(batch, 3, 6, generator=draw) for batch in (2, 1))
        cases.append((conditional_stand_in, latents, condition, null, scale))
    return cases


def always_guided(predict, latents, condition, null_condition, scale) -> Tensor:
    """Guidance also for scales below 1."""
    null = predict(latents, null_condition.expand_as(condition))
    return null + scale * (predict(latents, condition) - null)


def guided_from(start: str) -> Callable:
    """A function that exchanges the two predictions, or begins with the conditional one."""

    def guided(predict, latents, condition, null_condition, scale):
        conditional = predict(latents, condition)
        if scale <= 1:
            return conditional
        null = predict(latents, null_condition.expand_as(condition))
        if start == "exchanged":
            null, conditional = conditional, null
        return (conditional if start == "conditional" else null) + scale * (conditional - null)

    return guided


EXERCISES = {
    "04.1": Exercise(
        clean_latents,
        noisy_latents,
        {
            "what is left must be scaled back up: divide by the root of its share.": (
                lambda noisy, noise_pred, share: noisy - (1 - share).sqrt() * noise_pred
            ),
            "the formula has roots: those of the share, and of 1 minus the share.": (
                lambda noisy, noise_pred, share: (noisy - (1 - share) * noise_pred) / share
            ),
            "the noise was added, so subtract it.": (
                lambda noisy, noise_pred, share: clean_latents(noisy, -noise_pred, share)
            ),
            "the shares are exchanged: `kept` is that of the clean latents.": (
                lambda noisy, noise_pred, share: clean_latents(noisy, noise_pred, 1 - share)
            ),
        },
        "noisy = sqrt(kept) · clean + sqrt(1 - kept) · noise. Bring the noise to the other side, "
        "then divide.",
        axes=LATENTS,
    ),
    "04.2": Exercise(
        guidance,
        two_predictions,
        {
            "start from the null prediction: scale 1 must give the conditional one.": (
                lambda null, conditional, scale: conditional + scale * (conditional - null)
            ),
            "the difference points from null to conditional; this leads away from the caption.": (
                lambda null, conditional, scale: null + scale * (null - conditional)
            ),
            "it is the difference of the predictions that is scaled, not the prediction.": (
                lambda null, conditional, scale: null + scale * conditional
            ),
            "the two predictions are exchanged: scale 0 gives the null one, 1 the conditional "
            "one.": lambda null, conditional, scale: guidance(conditional, null, scale),
        },
        "Scale 0 gives `null`, scale 1 gives `conditional`. `torch.lerp` does it: an "
        "interpolation, which goes on beyond its end for a weight above 1.",
        axes=LATENTS,
    ),
    "04.3": CROSS_ATTENTION,
    "04.4": Exercise(
        denoising_loss,
        training_batches,
        {
            "the prediction is compared with the noise that was added, not with the latents.": (
                loss_with(target="latents")
            ),
            "the prediction is compared with the noise, not with the noisy latents.": (
                loss_with(target="inputs")
            ),
            "latents and noise are mixed with the roots of their shares.": loss_with(roots=False),
            "each picture has its own timestep; here the first one is used for all.": (
                loss_with(own=False)
            ),
            "the U-Net is given the noisy latents, not the clean ones.": loss_with(noised=False),
            "the error is squared; these are absolute values.": loss_with(error=torch.abs),
            "`alphas_cumprod` is the share of the latents, and 1 minus it that of the noise; here "
            "they are exchanged.": exchanged_shares,
        },
        "Three lines: the share of each picture, as (batch, 1, 1, 1); the noisy latents; the mean "
        "squared error between prediction and noise.",
    ),
    "04.5": Exercise(
        ddim_step,
        sampling_steps,
        {
            "that is the estimate of the clean latents: add noise again, as much as the next "
            "timestep has.": (
                lambda noisy, noise_pred, now, earlier: clean_latents(noisy, noise_pred, now)
            ),
            "the noise that is added again is that of the next timestep, not of this one.": (
                lambda noisy, noise_pred, now, earlier: (
                    earlier.sqrt() * clean_latents(noisy, noise_pred, now)
                    + (1 - now).sqrt() * noise_pred
                )
            ),
            "the clean latents are mixed in with the root of their share.": (
                lambda noisy, noise_pred, now, earlier: (
                    clean_latents(noisy, noise_pred, now) + (1 - earlier).sqrt() * noise_pred
                )
            ),
            "latents and noise are mixed again with the roots of their shares.": (
                lambda noisy, noise_pred, now, earlier: (
                    earlier * clean_latents(noisy, noise_pred, now) + (1 - earlier) * noise_pred
                )
            ),
            "the two timesteps are exchanged: this adds noise.": (
                lambda noisy, noise_pred, now, earlier: ddim_step(noisy, noise_pred, earlier, now)
            ),
        },
        "First the clean latents, as in 04.1, with the share of this timestep. Then add the "
        "predicted noise again, with the share of the next one.",
        axes=LATENTS,
    ),
    "04.6": Exercise(
        guided_prediction,
        guided_steps,
        {
            "a scale of at most 1 means no guidance: the condition alone.": always_guided,
            "the two halves are exchanged: this leads away from the condition.": (
                guided_from("exchanged")
            ),
            "start from the null prediction, not from the conditional one.": (
                guided_from("conditional")
            ),
            "that is the conditional prediction alone: nothing is guided.": (
                lambda predict, latents, condition, null_condition, scale: predict(
                    latents, condition
                )
            ),
        },
        "Put the latents into one batch twice, first with the null condition, then with the "
        "condition, and `chunk(2)` what comes out.",
        axes=LATENTS,
    ),
}
