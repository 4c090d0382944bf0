"""DreamLLM: all parts joined. Text and images in, text and images out, in one causal sequence."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from . import dream_queries, generate
from .diffusion import Decoder
from .documents import (
    IGNORED,
    Batch,
    Document,
    Layout,
    as_document,
    as_documents,
    collate,
    lay_out,
    pictures_of,
)
from .images import draw
from .llm import LLM
from .vision import VisionEncoder


@dataclass(frozen=True)
class DreamConfig:
    """What belongs to no single part."""

    template: str = "vicuna_v1.1"  # how one user turn is wrapped: see `documents.TEMPLATES`
    loss_weight_lm: float = 1.0
    loss_weight_vm: float = 10.0  # of the diffusion loss, by its official name; the toy has 40
    loss_scale_schedule: str = "none"  # what the weighted sum is divided by; official names

    def __post_init__(self):
        if self.loss_scale_schedule not in ("none", "l1_norm", "l2_norm"):
            raise ValueError(
                'loss_scale_schedule is "none", "l1_norm" or "l2_norm", not '
                f"{self.loss_scale_schedule!r}"
            )

    @property
    def loss_scale(self) -> float:
        """1, or a norm of the two weights, which keeps the overall scale of the gradients."""
        weights = (self.loss_weight_lm, self.loss_weight_vm)
        scales = {"none": 1.0, "l1_norm": sum(weights), "l2_norm": math.hypot(*weights)}
        return scales[self.loss_scale_schedule]

    def losses(self, language: Tensor, diffusion: Tensor) -> "Losses":
        """Both losses, and their weighted sum (equation 7 of the paper)."""
        total = self.loss_weight_lm * language + self.loss_weight_vm * diffusion
        return Losses(total / self.loss_scale, language, diffusion)


@dataclass
class Losses:
    """Scalars with gradients.

    language: cross entropy, in nats per token.
    diffusion: squared error of the predicted noise.
    total: their weighted sum.
    """

    total: Tensor
    language: Tensor
    diffusion: Tensor


@dataclass
class Features:
    """What the frozen networks make of the pictures of a batch; None without any."""

    patches: Tensor | None = None  # of images to be read, shape (images, patches, vision_dim)
    latents: Tensor | None = None  # of images to be painted: (images, channels, height, width)


class HookPoint(nn.Module):
    """Runs a function; forward hooks on this module can observe its result or replace it."""

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """The result of `compute()`."""
        return compute()


class DreamLLM(nn.Module):
    """One causal language model that reads text and pictures, writes text, and dreams pictures.

    Its parts may be in different precisions: each casts what comes in. Several threads may use it
    at once, since its methods leave nothing behind in it.

    Args:
        llm: the language model.
        vision: from pictures to LLM inputs.
        decoder: from LLM states to pictures.
        dream_queries: shape (1, queries, dim).
        tokenizer: of the language model.
        config: loss weights and chat template.

    Paper: section 2 and figure 2.
    """

    def __init__(
        self,
        llm: LLM,
        vision: VisionEncoder,
        decoder: Decoder,
        dream_queries: nn.Parameter,
        tokenizer,
        config: DreamConfig = DreamConfig(),
    ):
        super().__init__()
        self.llm, self.vision, self.decoder = llm, vision, decoder
        self.dream_queries = dream_queries
        self.tokenizer, self.config = tokenizer, config
        # Probes tell by these what is encoded for a picture, and what for the null condition.
        self.query_states, self.null_query_states = HookPoint(), HookPoint()

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.dream_queries.device

    @property
    def queries(self) -> int:
        """The number of dream queries that paint one picture."""
        return self.dream_queries.shape[1]

    # ----------------------------------------------------------------------------------------------
    # From documents to hidden states

    def embed(self, batch: Batch, images: list[Image.Image], seen: Tensor | None = None) -> Tensor:
        """Embeddings of a batch, with patches and dream queries inserted.

        Args:
            batch: padded layouts.
            images: one per block of patches, in the order of `batch.patches`.
            seen: `Features.patches` of these images, if they are known.

        Returns:
            Shape (batch, tokens, dim).
        """
        embeddings = self.llm.embed_tokens(batch.ids)
        embeddings = dream_queries.insert(embeddings, self.dream_queries, batch.queries)
        if images and seen is None:
            seen = self.vision.features(self.vision.pixels(images))
        if images:
            patches = self.vision.project(seen)
            embeddings = dream_queries.insert(embeddings, patches, batch.patches)
        return embeddings

    def open_layout(self, prompt) -> Layout:
        """The layout of a prompt that is to be continued: `<s>` prompt, without `</s>`.

        Args:
            prompt: str or Document. Images among its targets occur twice, first as queries and then
                as patches, as in training.

        Raises:
            TypeError: for anything else.
            ValueError: if the prompt and a block of dream queries do not fit into the context
                (both numbers).
        """
        patches = self.vision.patches
        layout = lay_out(
            as_document(prompt), self.tokenizer, self.queries, patches, learn_text=False, end=False
        )
        needed = len(layout.ids) + 1 + self.queries
        context = self.llm.config.max_position_embeddings
        if needed > context:
            raise ValueError(
                f"the prompt takes {needed} positions, its {self.queries} dream queries included; "
                f"the context has {context}"
            )
        return layout

    def prompt_layout(self, prompt) -> Layout:
        """The layout of a prompt, and the queries to paint: `<s>` prompt `<dream_start>` queries.

        Arguments and errors: as `open_layout`.
        """
        document = as_document(prompt)
        layout, image = self.open_layout(document), len(document.images)
        layout.add_queries(image, self.tokenizer.special, self.queries, learned=False)
        return layout

    @torch.no_grad()
    def encode(self, prompts) -> Tensor:
        """What the dream queries gather from each prompt.

        Args:
            prompts: a str or Document, or a list of them.

        Returns:
            Final-norm hidden states at the dream queries, shape (batch, queries, hidden). Prompts
            are padded on the left, and padding is never attended to, so that each prompt gives the
            same states as alone.

        Raises:
            TypeError, ValueError: as `dream`.
        """
        documents = as_documents(prompts)
        return self.encode_layouts(
            documents, [self.prompt_layout(document) for document in documents]
        )

    def encode_layouts(self, documents: list[Document], layouts: list[Layout]) -> Tensor:
        """As `encode`, through the hook point where interventions act."""
        return self.query_states(lambda: self.states_of_layouts(documents, layouts))

    @torch.no_grad()
    def null_states(self, negative_prompt=None) -> Tensor:
        """What guidance pushes away from: the queries after the empty (or negative) prompt.

        Shape (1, queries, hidden). Probes leave these states as they are.
        """
        document = as_document("" if negative_prompt is None else negative_prompt)
        return self.encode_null(document, self.prompt_layout(document))

    def encode_null(self, document: Document, layout: Layout) -> Tensor:
        """As `null_states`, with gradients."""
        return self.null_query_states(lambda: self.states_of_layouts([document], [layout]))

    def states_of_layouts(self, documents: list[Document], layouts: list[Layout]) -> Tensor:
        """Final-norm states at the queries that end each layout: (batch, queries, hidden)."""
        pad = self.tokenizer.special.pad
        batch = collate(layouts, pad, side="left", device=self.device)
        images = pictures_of(documents, [layout.patches for layout in layouts])
        mask = None if batch.mask.all() else batch.mask
        hidden = self.llm(self.embed(batch, images), mask)
        # No view, which could not be changed in training if it was made without gradients.
        return hidden[:, -self.queries :].clone()

    # ----------------------------------------------------------------------------------------------
    # Training

    def loss(self, documents, generator: torch.Generator | None = None) -> Losses:
        """Two losses: cross entropy of the next token on learned text, denoising on target images.

        Args:
            documents: a str or Document, or a list of them.
            generator: draws noise, timesteps and dropped conditions; None is a fresh one, seeded
                from torch's own.

        Returns:
            `.language`: mean cross entropy over all target tokens, 0 without any. `.diffusion`: the
            denoising loss over all target images, 0 without any. `.total`: their weighted sum.

        Raises:
            TypeError: for what is neither str nor Document.
            ValueError: for an empty list, or a document longer than the context (both numbers).

        Paper: section 2.3, equation 7; weights as in the official code.
        """
        if isinstance(documents, (list, tuple)) and not documents:
            raise ValueError("the loss of no documents is not defined: give at least one")
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))
        documents = as_documents(documents)
        layouts = [document.layout(self) for document in documents]
        return self.loss_of_layouts(layouts, documents, generator)

    @torch.no_grad()
    def features(self, layouts: list[Layout], documents: list[Document]) -> Features:
        """The part of a loss that needs no gradient while vision tower and VAE are frozen."""
        images = pictures_of(documents, [layout.patches for layout in layouts])
        targets = pictures_of(documents, [layout.queries for layout in layouts])
        patches = self.vision.features(self.vision.pixels(images)) if images else None
        return Features(patches, self.decoder.latents_of(targets) if targets else None)

    def loss_of_layouts(
        self,
        layouts: list[Layout],
        documents: list[Document],
        generator: torch.Generator,
        features: Features = Features(),
    ) -> Losses:
        """As `loss`, for documents that are laid out already, for example with other labels.

        What `features` has of their pictures is not computed again.
        """
        batch, hidden = self.read(layouts, documents, features.patches)
        language = diffusion = hidden.float().sum() * 0.0  # zero, but with a gradient
        learned = batch.labels[:, 1:] != IGNORED
        if learned.any():
            logits = self.llm.logits(hidden[:, :-1][learned])
            language = F.cross_entropy(logits, batch.labels[:, 1:][learned])
        if targets := pictures_of(documents, [layout.queries for layout in layouts]):
            states = dream_queries.gather(hidden, self.queries, batch.queries)
            states = self.drop_conditions(states, generator)
            latents = features.latents
            latents = self.decoder.latents_of(targets) if latents is None else latents
            diffusion = self.decoder.loss(latents, self.decoder.projector(states), generator)
        return self.config.losses(language, diffusion)

    def read(
        self, layouts: list[Layout], documents: list[Document], seen: Tensor | None = None
    ) -> tuple[Batch, Tensor]:
        """Pads laid-out documents on the right and reads them; `seen` as in `embed`.

        Returns:
            The batch, and its final-norm hidden states, shape (batch, tokens, dim).

        Raises:
            ValueError: for a document longer than the context (both numbers).
        """
        lengths = [len(layout.ids) for layout in layouts]
        context = self.llm.config.max_position_embeddings
        if max(lengths) > context:
            raise ValueError(
                f"document {lengths.index(max(lengths))} takes {max(lengths)} positions; the "
                f"context has {context}"
            )
        batch = collate(layouts, self.tokenizer.special.pad, device=self.device)
        images = pictures_of(documents, [layout.patches for layout in layouts])
        # Padding on the right comes after all real tokens: causal attention never sees it.
        return batch, self.llm(self.embed(batch, images, seen))

    def drop_conditions(self, states: Tensor, generator: torch.Generator) -> Tensor:
        """For a random share of pictures, replaces all query states by those of an empty prompt.

        So the U-Net learns the prediction that guidance needs: the queries after an empty prompt,
        in training as in sampling. (The official code trains with placeholder embeddings instead;
        the published weights were trained without dropping.)

        Args:
            states: shape (pictures, queries, hidden).
            generator: draws which are dropped.
        """
        drop_prob = self.decoder.config.drop_prob
        if not drop_prob:
            return states
        shares = draw(partial(torch.rand, dtype=torch.float32), (len(states), 1, 1), generator)
        dropped = shares.to(states.device) < drop_prob
        if not dropped.any():
            return states
        null = self.encode_null(Document([]), self.prompt_layout(""))
        return torch.where(dropped, null, states)

    # ----------------------------------------------------------------------------------------------
    # Use: these methods are written in `generate.py` and `dream_queries.py`

    dream, chat, write = generate.dream, generate.chat, generate.write
    paint = dream_queries.paint
