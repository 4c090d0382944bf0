"""Attribution with captum: which words and patches move the denoising loss, the judge's verdict, or an answer.

A map of attention says where a query looks; an attribution says what a result depends on, by gradients or by taking things
away. The target is any function of the dream queries' states, so that one method asks about losses and pictures alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from einops import rearrange, repeat
from PIL import Image
from torch import Tensor, nn

from .. import dream_queries as dreams
from ..documents import as_document, collate, turn_layout
from ..world.judge import BACKGROUND_WORDS, COLOUR_WORDS, HEADS, SIZE_WORDS
from ..world.scenes import SHAPES
from .llm_attention import labels_of

# What the heads of the judge choose from, by the last word of their names.
CHOICES = {
    "background": BACKGROUND_WORDS,
    "size": SIZE_WORDS,
    "colour": COLOUR_WORDS,
    "shape": SHAPES,
}


@dataclass
class Attribution:
    """What each input contributes to a target.

    values: shape (inputs,), signed, in units of the target; 0 for what was never changed (`<s>`, markers, queries).
    inputs: a label per input, as `Trace.inputs`.
    images: those that the patches belong to.
    whole, nothing: the target for the prompt, and for its baseline.
    delta: sum of the values less (whole - nothing): how far the sum is from complete. Integrated gradients promise 0, up to the
        number of steps; feature ablation promises nothing.
    """

    values: Tensor
    inputs: list
    images: list[Image.Image] = field(default_factory=list)
    whole: float = 0.0
    nothing: float = 0.0

    @property
    def delta(self) -> float:
        """See above."""
        return self.values.sum().item() - (self.whole - self.nothing)


class DenoisingTarget:
    """The denoising loss of one picture under a condition, at fixed noise: what stages I to III minimize.

    Args:
        model: a DreamLLM.
        image: what should be painted, a PIL image.
        timesteps: at which it is noised, integers in [0, 1000).
        seed: of the noise.
    """

    def __init__(
        self,
        model,
        image: Image.Image,
        timesteps: tuple[int, ...] = (300, 500, 700, 900),
        seed: int = 0,
    ):
        self.decoder, self.timesteps = model.decoder, torch.tensor(timesteps, device=model.device)
        latents = self.decoder.latents_of([image])
        noise = torch.randn(
            len(timesteps), *latents.shape[1:], generator=torch.Generator().manual_seed(seed)
        ).to(latents)
        scheduler = self.decoder.scheduler
        self.noisy = scheduler.add_noise(latents.expand_as(noise), noise, self.timesteps)
        self.wanted = noise
        if scheduler.config.prediction_type == "v_prediction":
            self.wanted = scheduler.get_velocity(latents.expand_as(noise), noise, self.timesteps)

    def __call__(self, states: Tensor) -> Tensor:
        """States (batch, queries, hidden) to mean squared errors (batch,)."""
        batch, times = len(states), len(self.timesteps)
        condition = repeat(
            self.decoder.projector(states),
            "batch queries dim -> (batch times) queries dim",
            times=times,
        )
        guess = self.decoder.predict(
            self.noisy.repeat(batch, 1, 1, 1), self.timesteps.repeat(batch), condition
        )
        error = (guess - self.wanted.repeat(batch, 1, 1, 1)).square().flatten(1).mean(dim=1)
        return rearrange(error, "(batch times) -> batch times", times=times).mean(dim=1)


class VerdictTarget:
    """The judge's log-probability of an answer about the picture that is painted, with gradients through all of sampling.

    Args:
        model: the toy DreamLLM.
        judge: `toy.pretrained_judge()`.
        head: what the judge is asked, one of `world.judge.HEADS` with words to choose from, such as "first colour" (of the left
            or upper thing).
        word: the answer, such as "red".
        seed: of all noise.
        num_inference_steps, guidance_scale: as in `dream`; None is the checkpoint's default.

    Raises:
        ValueError: for an unknown head or word (what there is).
    """

    def __init__(
        self,
        model,
        judge: nn.Module,
        head: str,
        word: str,
        seed: int = 0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
    ):
        heads = [name for name in HEADS if name.split()[-1] in CHOICES]
        if head not in heads:
            raise ValueError(f"{head!r} is none of {', '.join(heads)}")
        choices = CHOICES[head.split()[-1]]
        if word not in choices:
            raise ValueError(f"{word!r} is none of {', '.join(choices)}")
        self.decoder, self.judge, self.head, self.answer, self.seed = (
            model.decoder,
            judge,
            head,
            choices.index(word),
            seed,
        )
        self.steps, self.scale = self.decoder.sampling_options(num_inference_steps, guidance_scale)
        self.null = self.decoder.projector(model.null_states()) if self.scale > 1 else None

    def __call__(self, states: Tensor) -> Tensor:
        """States (batch, queries, hidden) to log-probabilities (batch,), in nats."""
        latents = self.decoder.sample_seeded(
            self.decoder.projector(states),
            self.null,
            [self.seed] * len(states),
            self.steps,
            self.scale,
        )
        return self.judge(self.decoder.decode(latents))[self.head].log_softmax(dim=-1)[
            :, self.answer
        ]


def prepared(model, prompt, target: Callable[[Tensor], Tensor], neutral: str):
    """What both methods start from: the target as a function of embeddings, these, a baseline of them, and which inputs change.

    The baseline has a neutral word in the place of each word, and what an even gray picture gives in the place of each patch; all
    else is as in the prompt. (A mean of words, or zeros, is quieter than any word: RMSNorm makes the way from there steep, and
    integrated gradients need many more steps.)
    """
    document = as_document(prompt)
    layout = model.prompt_layout(document)
    batch = collate([layout], model.tokenizer.special.pad, device=model.device)
    with torch.no_grad():
        embeddings = model.embed(batch, [document.images[number] for number, _ in layout.patches])
        gray = [Image.new("RGB", (8, 8), (128, 128, 128))] * len(layout.patches)
        baseline = model.embed(batch, gray)
        labels = labels_of(layout, model)
        words = [
            place
            for place, label in enumerate(labels)
            if isinstance(label, str) and layout.ids[place] not in model.tokenizer.special.ids
        ]
        baseline[:, words] = model.llm.embed_tokens.weight[model.tokenizer.encode(neutral)].mean(
            dim=0
        )

    def forward(embeddings: Tensor) -> Tensor:
        hidden = model.llm(embeddings)
        return target(
            dreams.gather(
                hidden,
                model.queries,
                [(row, layout.queries[-1][1]) for row in range(len(embeddings))],
            )
        )

    changing = words + [place for place, label in enumerate(labels) if isinstance(label, tuple)]
    if not changing:
        raise ValueError("there is no word and no patch among the inputs that could contribute")
    with torch.no_grad():
        whole, nothing = (forward(inputs).item() for inputs in (embeddings, baseline))
    return (
        forward,
        embeddings,
        baseline,
        changing,
        lambda values: Attribution(values.cpu(), labels, document.images, whole, nothing),
    )


def integrated_gradients(
    model,
    prompt,
    target: Callable[[Tensor], Tensor],
    steps: int = 128,
    batch: int = 16,
    neutral: str = "thing",
) -> Attribution:
    """Gradients summed on the straight way from the baseline to the prompt (Sundararajan et al. 2017), with captum.

    Args:
        model: a DreamLLM.
        prompt: str or Document, without painted images.
        target: states (batch, queries, hidden) to (batch,), differentiable: `DenoisingTarget`, `VerdictTarget`, or your own.
        steps: points on the way. The attribution's `delta` says whether they were enough.
        batch: points at a time.
        neutral: the word that the baseline has in the place of each; the mean of its tokens, if it has several.

    Raises:
        ValueError: if nothing could contribute.
    """
    from captum.attr import IntegratedGradients  # here, since captum takes a second to import

    forward, embeddings, baseline, _, done = prepared(model, prompt, target, neutral)
    values = IntegratedGradients(forward).attribute(
        embeddings, baseline, n_steps=steps, internal_batch_size=batch
    )
    return done(values[0].sum(dim=-1).detach())


@torch.no_grad()
def feature_ablation(
    model, prompt, target: Callable[[Tensor], Tensor], batch: int = 16, neutral: str = "thing"
) -> Attribution:
    """What the target loses when one word or one patch is put to its baseline, and nothing else, with captum.

    The reference for other methods: it is what "matters" means. Arguments and errors: as `integrated_gradients`.
    """
    from captum.attr import FeatureAblation

    forward, embeddings, baseline, changing, done = prepared(model, prompt, target, neutral)
    # One feature for each input that changes, and one for all others, which are equal to their baseline.
    mask = torch.zeros(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
    mask[:, changing] = torch.arange(1, len(changing) + 1, device=embeddings.device)
    mask = repeat(mask, "batch inputs -> batch inputs dim", dim=embeddings.shape[-1])
    values = FeatureAblation(forward).attribute(
        embeddings, baseline, feature_mask=mask, perturbations_per_eval=batch
    )
    values = values[0, :, 0]
    values[mask[0, :, 0] == 0] = 0  # nothing was taken away there
    return done(values)


class AnswerModel(nn.Module):
    """A DreamLLM in the middle of a user turn, as captum's language model attribution wants it: token ids in, logits out.

    Args:
        model: a DreamLLM.
        turn: as in `DreamLLM.chat`.
    """

    def __init__(self, model, turn):
        super().__init__()
        self.model, (self.layout, self.images) = model, turn_layout(model, turn)
        self.device = model.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None):
        """Ids (batch, tokens), the turn's and as much of an answer as there is, to an object with `logits`."""
        batch = collate([self.layout], self.model.tokenizer.special.pad, device=self.device)
        embeddings = self.model.llm.embed_tokens(input_ids)
        if self.images:
            patches = self.model.vision(self.model.vision.pixels(self.images))
            blocks = [(row, first) for row in range(len(input_ids)) for _, first in batch.patches]
            embeddings = dreams.insert(embeddings, patches.repeat(len(input_ids), 1, 1), blocks)
        return Logits(self.model.llm.logits(self.model.llm(embeddings)))


@dataclass
class Logits:
    """Scores of the next token, shape (batch, tokens, vocabulary), under the name that captum reads."""

    logits: Tensor


class TurnTokenizer:
    """The tokenizer that captum asks for a turn that is laid out already: its text is that turn, whatever is given."""

    def __init__(self, model, ids: list[int]):
        self.tokenizer, self.ids = model.tokenizer, ids

    def __call__(
        self, text: str, return_offsets_mapping: bool, add_special_tokens: bool
    ) -> dict[str, list]:
        """A text's ids, and from where to where in it each of them stands: captum cuts the answer so."""
        ids, offsets, end = self.tokenizer.encode(text), [], 0
        for token in ids:
            start = max(end, text.find(self.tokenizer.decode([token]).strip(), end))
            end = start + len(self.tokenizer.decode([token]).strip())
            offsets.append((start, end))
        return {"input_ids": ids, "offset_mapping": offsets}

    def encode(self, text: str, return_tensors: str | None = None, add_special_tokens: bool = True):
        """The turn as a tensor (1, tokens), or a text's ids as a list."""
        return torch.tensor([self.ids]) if return_tensors else self.tokenizer.encode(text)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """A label for each id."""
        return [self.tokenizer.label(token) for token in ids]

    def decode(self, ids) -> str:
        """The text of ids, a list or a tensor."""
        return self.tokenizer.decode([int(token) for token in ids])


@torch.no_grad()
def answer_attribution(model, turn, answer: str) -> Attribution:
    """What each word of a user turn contributes to the log-probability of an answer: captum's attribution for language models.

    One word at a time is replaced by padding (feature ablation). Pictures of the turn are seen, but not taken apart.

    Args:
        model: a DreamLLM.
        turn: as in `DreamLLM.chat`.
        answer: whose log-probability is explained, such as what `chat` says.

    Returns:
        Values in nats over all inputs of the turn, 0 at patches and special tokens.
    """
    from captum.attr import FeatureAblation, LLMAttribution, TextTokenInput

    asked = AnswerModel(model, turn)
    ids, special = asked.layout.ids, model.tokenizer.special
    tokenizer = TurnTokenizer(model, ids)
    text = TextTokenInput("", tokenizer, baselines=special.pad, skip_tokens=list(special.ids))
    wanted = torch.tensor(tokenizer.encode(answer))
    found = LLMAttribution(FeatureAblation(asked), tokenizer).attribute(
        text, target=wanted, forward_in_tokens=False
    )
    words = [place for place, token in enumerate(ids) if token not in special.ids]
    values = torch.zeros(len(ids))
    values[words] = found.seq_attr.cpu()

    def log_probability(prefix: list[int]) -> float:
        logits = asked(torch.tensor([prefix + wanted.tolist()], device=model.device)).logits[
            0, len(prefix) - 1 : -1
        ]
        return logits.log_softmax(dim=-1).gather(1, wanted.to(model.device)[:, None]).sum().item()

    bare = [special.pad if place in words else token for place, token in enumerate(ids)]
    return Attribution(
        values,
        labels_of(asked.layout, model),
        asked.images,
        log_probability(ids),
        log_probability(bare),
    )
