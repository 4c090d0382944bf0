"""Attribution with captum: how much each word and each patch contributes to a result.

A map of attention shows where a query looks. An attribution shows what a result depends on, found
by gradients or by ablation. The result is any function of the dream queries' states (see
`targets.py`), so that one method serves for losses and for pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from einops import repeat
from PIL import Image
from torch import Tensor

from .. import dream_queries as dreams
from ..documents import as_document, collate
from ..images import as_integer
from .positions import labels_of

Target = Callable[[Tensor], Tensor]  # states (batch, queries, hidden) to numbers (batch,)


@dataclass
class Attribution:
    """What each input contributes to a target.

    values: shape (inputs,), signed, in units of the target; 0 at inputs that are the same in the
        baseline (`<s>`, markers, queries).
    inputs: a label for each input, as in `Trace.inputs`.
    images: the images that the patches belong to.
    whole, nothing: the target for the prompt, and for the baseline.
    """

    values: Tensor
    inputs: list
    images: list[Image.Image] = field(default_factory=list)
    whole: float = 0.0
    nothing: float = 0.0

    @property
    def delta(self) -> float:
        """The sum of the values minus (whole - nothing): how far they are from adding up.

        Integrated gradients make it 0, up to the number of steps. Feature ablation does not.
        """
        return self.values.sum().item() - (self.whole - self.nothing)


class Comparison:
    """A prompt and its baseline, as embeddings, and the target as a function of embeddings.

    The baseline has a neutral word in place of each word, and the patches of an even gray picture
    in place of each patch; everything else is as in the prompt. (A mean of words, or zeros, has a
    smaller norm than any word. RMSNorm makes the path from there steep, so that integrated
    gradients need many more steps.)

    Args:
        model: a DreamLLM.
        prompt: str or Document.
        target: see `integrated_gradients`.
        neutral: the neutral word; if it has several tokens, their mean embedding is used.

    embeddings, baseline: of the prompt and of the baseline, shape (1, inputs, dim).
    positions: the inputs at which the two differ.

    Raises:
        ValueError: if the prompt has neither a word nor a patch, or the neutral word has no token.
    """

    @torch.no_grad()
    def __init__(self, model, prompt, target: Target, neutral: str):
        self.model, self.target = model, target
        document = as_document(prompt)
        layout = model.prompt_layout(document)
        batch = collate([layout], model.tokenizer.special.pad, device=model.device)
        self.images, self.labels = document.images, labels_of(layout, model)
        self.first_query = layout.queries[-1][1]
        self.embeddings = model.embed(batch, [self.images[index] for index, _ in layout.patches])
        gray = Image.new("RGB", (8, 8), (128, 128, 128))
        self.baseline = model.embed(batch, [gray] * len(layout.patches))
        special = model.tokenizer.special.ids
        words = [
            position
            for position, label in enumerate(self.labels)
            if isinstance(label, str) and layout.ids[position] not in special
        ]
        patches = [
            position for position, label in enumerate(self.labels) if isinstance(label, tuple)
        ]
        self.positions = words + patches
        if not self.positions:
            raise ValueError("there is no word and no patch among the inputs to attribute to")
        tokens = model.tokenizer.encode(neutral)
        if not tokens:
            raise ValueError(f"the neutral word {neutral!r} has no token")
        self.baseline[:, words] = model.llm.embed_tokens.weight[tokens].mean(dim=0)

    def __call__(self, embeddings: Tensor) -> Tensor:
        """The target for embeddings, shape (batch, inputs, dim): numbers, shape (batch,)."""
        hidden = self.model.llm(embeddings)
        blocks = [(row, self.first_query) for row in range(len(embeddings))]
        return self.target(dreams.gather(hidden, self.model.queries, blocks))

    @torch.no_grad()
    def attribution(self, values: Tensor) -> Attribution:
        """Values for each input, shape (inputs,), with labels and with the target's two values."""
        whole, nothing = self(self.embeddings).item(), self(self.baseline).item()
        return Attribution(values.cpu(), self.labels, self.images, whole, nothing)


@torch.inference_mode(False)  # which turns gradients on
def integrated_gradients(
    model, prompt, target: Target, steps: int = 128, batch: int = 16, neutral: str = "thing"
) -> Attribution:
    """Gradients summed along the straight path from the baseline to the prompt, with captum.

    Args:
        model: a DreamLLM.
        prompt: str or Document, without painted images.
        target: states (batch, queries, hidden) to (batch,), differentiable: `DenoisingTarget`,
            `VerdictTarget`, or your own.
        steps: points on the path. The attribution's `delta` shows whether they were enough.
        batch: points in one batch.
        neutral: the word that the baseline has in place of each word; if it has several tokens,
            their mean embedding is used.

    Raises:
        TypeError: for another prompt; for steps or a batch that is not a number.
        ValueError: if the prompt has neither a word nor a patch, or the neutral word has no token;
            for fewer than 1 step, or less than 1 in a batch.

    Source: Sundararajan et al. 2017.
    """
    from captum.attr import IntegratedGradients  # here, since captum takes a second to import

    steps, batch = as_integer("steps", steps, 1), as_integer("batch", batch, 1)
    compared = Comparison(model, prompt, target, neutral)
    with model.device:  # captum makes tensors on the default device, which could be any
        values = IntegratedGradients(compared).attribute(
            compared.embeddings, compared.baseline, n_steps=steps, internal_batch_size=batch
        )
    return compared.attribution(values[0].sum(dim=-1).detach())


@torch.inference_mode(False)
@torch.no_grad()
def feature_ablation(
    model, prompt, target: Target, batch: int = 16, neutral: str = "thing"
) -> Attribution:
    """The target's change when one word or one patch alone is set to its baseline, with captum.

    It is the reference for other methods: the direct effect of each input. Arguments and errors
    are as in `integrated_gradients`.
    """
    from captum.attr import FeatureAblation

    batch = as_integer("batch", batch, 1)
    compared = Comparison(model, prompt, target, neutral)
    embeddings, positions = compared.embeddings, compared.positions
    # One feature for each input that changes; feature 0 for all others, equal to their baseline.
    features = torch.zeros(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
    features[:, positions] = torch.arange(1, len(positions) + 1, device=embeddings.device)
    mask = repeat(features, "batch inputs -> batch inputs dim", dim=embeddings.shape[-1])
    with model.device:  # as above
        values = FeatureAblation(compared).attribute(
            embeddings, compared.baseline, feature_mask=mask, perturbations_per_eval=batch
        )
    # captum gives every number of a feature the feature's value: one of them is enough.
    return compared.attribution(values[0, :, 0].masked_fill(features[0] == 0, 0))
