"""The exercises of notebook 04: cross-attention, steps of training and sampling, and guidance."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from ..exercises import Exercise
from .cross_attention import CROSS_ATTENTION

LATENTS = "batch channels height width"
# Shares of the clean latents in noisy ones, as a schedule of five timesteps.
SCHEDULE = torch.tensor([0.95, 0.7, 0.45, 0.2, 0.05])


def random_latents(seed: int) -> Tensor:
    """Numbers drawn from N(0, 1), shape (2, 2, 4, 3, 5): two batches of latents."""
    return torch.randn(2, 2, 4, 3, 5, generator=torch.Generator().manual_seed(seed))


def random_conditions(seed: int) -> tuple[Tensor, Tensor]:
    """Numbers drawn from N(0, 1): conditions (2, 3, 6) and a null condition (1, 3, 6)."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 6, generator=draw), torch.randn(1, 3, 6, generator=draw)


def unet_stand_in(noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
    """A fixed function in place of a U-Net; it depends on all of its arguments.

    Raises:
        ValueError: unless there is a timestep and a condition for each of the latents.
    """
    for name, given in {"timesteps": timesteps, "conditions": condition}.items():
        if len(given) != len(noisy):
            raise ValueError(f"{len(noisy)} latents need as many {name}, not {len(given)}")
    effect = timesteps / 5 + condition.mean(dim=(1, 2))
    return noisy.tanh() * rearrange(effect, "batch -> batch 1 1 1") + noisy / 2


# --------------------------------------------------------------------------------------------------
# 04.2: a step of training


def training_loss(
    predict: Callable,
    latents: Tensor,
    noise: Tensor,
    timesteps: Tensor,
    condition: Tensor,
    null: Tensor,
    dropped: Tensor,
    alphas_cumprod: Tensor,
) -> Tensor:
    """The loss of one step of training: how well the noise is predicted that was added.

    Args:
        predict: the U-Net: noisy latents, timesteps and conditions to a prediction of the noise.
        latents: clean, shape (batch, channels, height, width).
        noise: of the shape of `latents`.
        timesteps: shape (batch,), indices into `alphas_cumprod`.
        condition: shape (batch, words, dim).
        null: the null condition, one for all, shape (1, words, dim).
        dropped: shape (batch,), True where the null condition replaces the picture's own.
        alphas_cumprod: share of the clean latents at each timestep, in [0, 1].

    Returns:
        A scalar. `minidream.diffusion.Decoder.loss` also draws noise and timesteps.
    """
    share = rearrange(alphas_cumprod[timesteps], "batch -> batch 1 1 1")
    noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
    chosen = torch.where(rearrange(dropped, "batch -> batch 1 1"), null, condition)
    return (predict(noisy, timesteps, chosen) - noise).square().mean()


def training_batches() -> list[tuple]:
    """The arguments of `training_loss`: in one of three batches no condition is dropped."""
    cases = []
    for seed, timesteps, dropped in (
        (7, [1, 3], [True, False]),
        (8, [4, 0], [False, True]),
        (9, [2, 1], [False, False]),
    ):
        conditions = random_conditions(seed)
        batch = (*random_latents(seed), torch.tensor(timesteps), *conditions, torch.tensor(dropped))
        cases.append((unet_stand_in, *batch, SCHEDULE))
    return cases


def loss_with(
    target: str = "noise",
    roots: bool = True,
    own: bool = True,
    noised: bool = True,
    drops: Callable = torch.clone,
    error: Callable = torch.square,
) -> Callable:
    """`training_loss` with one thing changed."""

    def loss(predict, latents, noise, timesteps, condition, null, dropped, alphas_cumprod):
        share = rearrange(alphas_cumprod[timesteps], "batch -> batch 1 1 1")
        share = share if own else share[:1]
        clean, noisy = (share.sqrt(), (1 - share).sqrt()) if roots else (share, 1 - share)
        inputs = clean * latents + noisy * noise if noised else latents
        chosen = torch.where(rearrange(drops(dropped), "batch -> batch 1 1"), null, condition)
        wanted = {"noise": noise, "latents": latents, "inputs": inputs}[target]
        return error(predict(inputs, timesteps, chosen) - wanted).mean()

    return loss


def exchanged_shares(*case) -> Tensor:
    """Noise in place of latents, and the other way round."""
    *batch, alphas_cumprod = case
    return training_loss(*batch, 1 - alphas_cumprod)


# --------------------------------------------------------------------------------------------------
# 04.3: a step of sampling


def ddim_step(
    noisy: Tensor, noise_pred: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor
) -> Tensor:
    """A step of DDIM without fresh noise (eta 0): the same noise again, but less of it.

    Args:
        noisy, noise_pred: latents and the predicted noise, of one shape.
        alpha_bar: share of the clean latents at this timestep, in (0, 1).
        alpha_bar_next: the same at the timestep that comes next in sampling; it is larger.

    Returns:
        Less noisy latents. (Song et al. 2021, equation 12.)
    """
    clean = (noisy - (1 - alpha_bar).sqrt() * noise_pred) / alpha_bar.sqrt()
    return alpha_bar_next.sqrt() * clean + (1 - alpha_bar_next).sqrt() * noise_pred


def sampling_steps() -> list[tuple]:
    """Latents, predicted noise, and the shares before and after the step."""
    pairs = zip(SCHEDULE.flip(0)[:4], SCHEDULE.flip(0)[1:])
    return [(*random_latents(10 + i), now, then) for i, (now, then) in enumerate(pairs)]


def clean_latents(noisy: Tensor, noise_pred: Tensor, alpha_bar: Tensor) -> Tensor:
    """Noisy latents without the predicted noise, at the scale of clean latents.

    diffusers' schedulers call it `pred_original_sample`.
    """
    return (noisy - (1 - alpha_bar).sqrt() * noise_pred) / alpha_bar.sqrt()


def step_with(
    clean: Callable = clean_latents,
    added: Callable = lambda noisy, noise_pred: noise_pred,
    root: Callable = torch.sqrt,
    root_of_clean: Callable = torch.sqrt,
) -> Callable:
    """`ddim_step` with one thing changed."""

    def step(noisy, noise_pred, now, then):
        estimate = clean(noisy, noise_pred, now)
        return root_of_clean(then) * estimate + root(1 - then) * added(noisy, noise_pred)

    return step


# --------------------------------------------------------------------------------------------------
# 04.4: a guided prediction


def guided_prediction(
    predict: Callable,
    noisy: Tensor,
    timesteps: Tensor,
    condition: Tensor,
    null: Tensor,
    guidance_scale: float,
) -> Tensor:
    """The prediction of one step with classifier-free guidance.

    Args:
        predict: the U-Net: noisy latents, timesteps and conditions, one for each, to predictions.
        noisy: latents, shape (batch, channels, height, width).
        timesteps: shape (batch,).
        condition: shape (batch, words, dim).
        null: the null condition, one for all, shape (1, words, dim).
        guidance_scale: 0 is the null prediction, 1 the conditional one.

    Returns:
        The shape of `noisy`. `minidream.diffusion.Decoder.sample` makes both predictions in one
        batch.
    """
    null_pred = predict(noisy, timesteps, null.expand_as(condition))
    noise_pred = predict(noisy, timesteps, condition)
    return null_pred + guidance_scale * (noise_pred - null_pred)


def guided_steps() -> list[tuple]:
    """The arguments of `guided_prediction` for four scales."""
    cases = []
    for index, scale in enumerate((0.0, 1.0, 3.0, 7.5)):
        noisy, _ = random_latents(20 + index)
        timesteps = torch.tensor([index, 4 - index])
        cases.append((unet_stand_in, noisy, timesteps, *random_conditions(20 + index), scale))
    return cases


def guided_by(rule: Callable) -> Callable:
    """A function that puts the null and the conditional prediction together by another rule."""

    def guided(predict, noisy, timesteps, condition, null, scale):
        null_pred = predict(noisy, timesteps, null.expand_as(condition))
        return rule(null_pred, predict(noisy, timesteps, condition), scale)

    return guided


EXERCISES = {
    "04.1": CROSS_ATTENTION,
    "04.2": Exercise(
        training_loss,
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
            "no condition is dropped: where `dropped` is True, the U-Net is given `null`.": (
                loss_with(drops=torch.zeros_like)
            ),
            "the conditions are exchanged: where `dropped` is True, the U-Net is given `null`.": (
                loss_with(drops=torch.logical_not)
            ),
            "all conditions are dropped; only those of pictures where `dropped` is True should "
            "be.": loss_with(drops=torch.ones_like),
        },
        "Mix the noisy latents by the formula for xₜ, with ᾱ of each picture rearranged to "
        "(batch, 1, 1, 1). Choose the condition with `torch.where`. Then take the mean squared "
        "error between prediction and noise.",
    ),
    "04.3": Exercise(
        ddim_step,
        sampling_steps,
        {
            "this is x̂₀. Mix it with noise again, as much as the next timestep has.": (
                lambda noisy, noise_pred, now, then: clean_latents(noisy, noise_pred, now)
            ),
            "the noise that is added again is that of the next timestep, not of this one.": (
                lambda noisy, noise_pred, now, then: (
                    then.sqrt() * clean_latents(noisy, noise_pred, now)
                    + (1 - now).sqrt() * noise_pred
                )
            ),
            "x̂₀ is mixed in with the root of its share.": step_with(root_of_clean=torch.ones_like),
            "x̂₀ and the noise are mixed again with the roots of their shares.": (
                step_with(root=torch.clone, root_of_clean=torch.clone)
            ),
            "for x̂₀, divide by the root of ᾱ after the noise is subtracted.": step_with(
                lambda noisy, noise_pred, now: noisy - (1 - now).sqrt() * noise_pred
            ),
            "the formula for x̂₀ has roots: those of ᾱ and of 1 − ᾱ.": step_with(
                lambda noisy, noise_pred, now: (noisy - (1 - now) * noise_pred) / now
            ),
            "the noise was added to the latents; for x̂₀ it is subtracted.": step_with(
                lambda noisy, noise_pred, now: clean_latents(noisy, -noise_pred, now)
            ),
            "in x̂₀, ᾱ and 1 − ᾱ are exchanged; ᾱ is the share of the clean latents.": step_with(
                lambda noisy, noise_pred, now: clean_latents(noisy, noise_pred, 1 - now)
            ),
            "what is added again is the predicted noise, not the noisy latents.": (
                step_with(added=lambda noisy, noise_pred: noisy)
            ),
            "the two timesteps are exchanged: this adds noise.": (
                lambda noisy, noise_pred, now, then: ddim_step(noisy, noise_pred, then, now)
            ),
        },
        "Two lines are enough. First x̂₀, with `alpha_bar`. Then mix x̂₀ and `noise_pred` by the "
        "formula for xₜ, with `alpha_bar_next`.",
        axes=LATENTS,
    ),
    "04.4": Exercise(
        guided_prediction,
        guided_steps,
        {
            "the two predictions are exchanged: scale 0 gives the null one, 1 the conditional "
            "one.": guided_by(lambda null, noise_pred, scale: torch.lerp(noise_pred, null, scale)),
            "start from the null prediction: scale 1 must give the conditional one.": guided_by(
                lambda null, noise_pred, scale: noise_pred + scale * (noise_pred - null)
            ),
            "the difference points from the null prediction to the conditional one; this leads "
            "away from the condition.": guided_by(
                lambda null, noise_pred, scale: null + scale * (null - noise_pred)
            ),
            "it is the difference of the predictions that is scaled, not the prediction.": (
                guided_by(lambda null, noise_pred, scale: null + scale * noise_pred)
            ),
            "that is the conditional prediction alone: nothing is guided.": (
                guided_by(lambda null, noise_pred, scale: noise_pred)
            ),
        },
        "Call `predict` twice, once with `null.expand_as(condition)` and once with `condition`. "
        "Scale 0 must give the first prediction, and scale 1 the second.",
        axes=LATENTS,
    ),
}
