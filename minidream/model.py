"""DreamLLM: the boxes put together. Text and images in, text and images out, one causal sequence for all of it."""

import math
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from . import dream_queries as dreams
from .diffusion import Decoder
from .documents import IGNORED, Batch, Document, Layout, collate, lay_out
from .generate import answer, write
from .images import to_pil
from .llm import LLM
from .vision import VisionEncoder


@dataclass(frozen=True)
class DreamConfig:
    """What belongs to no single box."""

    template: str = "vicuna_v1.1"  # how one user turn is wrapped: see `generate.TEMPLATES`
    loss_weight_lm: float = 1.0
    loss_weight_vm: float = 10.0  # the paper's code: painting weighs ten times as much as writing
    loss_scale_schedule: str = "none"  # what the weighted sum is divided by, by the official names

    def __post_init__(self):
        if self.loss_scale_schedule not in ("none", "l1_norm", "l2_norm"):
            raise ValueError(
                f'loss_scale_schedule is "none", "l1_norm" or "l2_norm", not {self.loss_scale_schedule!r}'
            )

    @property
    def loss_scale(self) -> float:
        """1, or a norm of the two weights, so that they may be changed without changing the size of the gradients."""
        weights = (self.loss_weight_lm, self.loss_weight_vm)
        return {"none": 1.0, "l1_norm": sum(weights), "l2_norm": math.hypot(*weights)}[
            self.loss_scale_schedule
        ]


@dataclass
class Losses:
    """Scalars with gradients: `total` = weighted sum of `language` (nats per token) and `diffusion` (squared error)."""

    total: Tensor
    language: Tensor
    diffusion: Tensor


class DreamLLM(nn.Module):
    """One causal language model that reads text and pictures, writes text, and dreams pictures.

    Args:
        llm: the language model.
        vision: pictures to LLM inputs.
        decoder: LLM states to pictures.
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

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.dream_queries.device

    @property
    def queries(self) -> int:
        """How many dream queries paint one picture."""
        return self.dream_queries.shape[1]

    # -----------------------------------------------------------------------------------------------------------------
    # From documents to hidden states

    def embed(self, batch: Batch, images: list[Image.Image]) -> Tensor:
        """Embeddings of a batch, with patches and dream queries in their places.

        Args:
            batch: padded layouts.
            images: one per block of patches, in the order of `batch.patches`.

        Returns:
            Shape (batch, tokens, dim).
        """
        embeddings = self.llm.embed_tokens(batch.ids)
        embeddings = dreams.insert(embeddings, self.dream_queries, batch.queries)
        if images:
            embeddings = dreams.insert(
                embeddings, self.vision(self.vision.pixels(images)), batch.patches
            )
        return embeddings

    def prompt_layout(self, prompt) -> Layout:
        """What stands before a picture and its queries: `<s>` prompt `<dream_start>` queries.

        Args:
            prompt: str or Document; images that a document painted stand twice, as in training.

        Raises:
            TypeError: for anything else.
            ValueError: if it does not fit into the context (both numbers).
        """
        document = as_document(prompt)
        layout = lay_out(
            document, self.tokenizer, self.queries, self.vision.patches, learn_text=False
        )
        del layout.ids[-1:], layout.labels[-1:]  # the document goes on: no </s>
        layout.add_dream(len(document.images), self.tokenizer.special, self.queries, learned=False)
        del layout.ids[-1:], layout.labels[-1:]  # nothing looks at <dream_end> any more
        context = self.llm.config.max_position_embeddings
        if len(layout.ids) > context:
            raise ValueError(
                f"the prompt takes {len(layout.ids)} positions, its {self.queries} dream queries included; "
                f"the context has {context}"
            )
        return layout

    @torch.no_grad()
    def encode(self, prompts) -> Tensor:
        """What the dream queries gather from each prompt.

        Args:
            prompts: a str or Document, or a list of them.

        Returns:
            Final-norm hidden states at the dream queries, shape (batch, queries, hidden). Padding stands on the left and
            is counted nowhere, so that each prompt gives what it gives alone.

        Raises:
            TypeError, ValueError: as `dream`.
        """
        return self._states(prompts)

    @torch.no_grad()
    def null_states(self, negative_prompt=None) -> Tensor:
        """What guidance pushes away from: the queries after the empty (or negative) prompt, shape (1, queries, hidden).

        Not by way of `encode`, so that what an intervention does to prompts leaves it as it is.
        """
        return self._states([negative_prompt or ""])

    def _states(self, prompts) -> Tensor:
        """As `encode`."""
        prompts = as_prompts(prompts)
        layouts = [self.prompt_layout(prompt) for prompt in prompts]
        batch = collate(layouts, self.tokenizer.special.pad, side="left", device=self.device)
        images = [
            as_document(prompt).images[number]
            for prompt, layout in zip(prompts, layouts)
            for number, _ in layout.patches
        ]
        mask = None if batch.mask.all() else batch.mask
        hidden = self.llm(self.embed(batch, images), mask)
        last = [(row, batch.ids.shape[1] - self.queries) for row in range(len(prompts))]
        return dreams.gather(hidden, self.queries, last)

    # -----------------------------------------------------------------------------------------------------------------
    # Training

    def loss(self, documents: list[Document], generator: torch.Generator | None = None) -> Losses:
        """The losses of a batch of documents: next token where text is learned, noise where a picture is a target.

        Args:
            documents: at least one.
            generator: draws noise, timesteps and dropped conditions; None uses a fresh one seeded from torch's own.

        Returns:
            `.language`: mean cross entropy over all target tokens, 0 without any. `.diffusion`: the denoising loss over
            all target images, 0 without any. `.total`: their weighted sum.

        Paper: section 2.3, equation 7; weights as in the official code.
        """
        if not documents:
            raise ValueError("the loss of no documents is not defined: give at least one")
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        layouts = [
            lay_out(document, self.tokenizer, self.queries, self.vision.patches)
            for document in documents
        ]
        return self.loss_of_layouts(layouts, documents, generator)

    def loss_of_layouts(
        self, layouts: list[Layout], documents: list[Document], generator: torch.Generator
    ) -> Losses:
        """As `loss`, for documents that were laid out before, with other labels say."""
        batch, hidden = self.read(layouts, documents)
        zero = hidden.sum() * 0.0
        learned = batch.labels[:, 1:] != IGNORED
        language = zero
        if learned.any():
            language = F.cross_entropy(
                self.llm.logits(hidden[:, :-1][learned]), batch.labels[:, 1:][learned]
            )
        diffusion = zero
        if painted := pictures_of(documents, [layout.queries for layout in layouts]):
            states = self.drop_conditions(
                dreams.gather(hidden, self.queries, batch.queries), generator
            )
            latents = self.decoder.latents_of(painted)
            diffusion = self.decoder.loss(latents, self.decoder.projector(states), generator)
        total = self.config.loss_weight_lm * language + self.config.loss_weight_vm * diffusion
        return Losses(total / self.config.loss_scale, language, diffusion)

    def read(self, layouts: list[Layout], documents: list[Document]) -> tuple[Batch, Tensor]:
        """Laid-out documents, padded on the right to one batch, and their final-norm hidden states, shape (batch, tokens, dim)."""
        batch = collate(layouts, self.tokenizer.special.pad, device=self.device)
        # Padding on the right stands after everything real: plain causal attention never looks at it.
        return batch, self.llm(
            self.embed(batch, pictures_of(documents, [layout.patches for layout in layouts]))
        )

    def drop_conditions(self, states: Tensor, generator: torch.Generator) -> Tensor:
        """States with a random share replaced by the null condition, so that guidance has something to push away from.

        The null condition is the queries after an empty prompt, in training as in sampling. (The official training code
        uses placeholder embeddings instead; see its discrepancies. The published weights were trained without any.)
        """
        drop_prob = self.decoder.config.drop_prob
        if not drop_prob:
            return states
        dropped = torch.rand(len(states), 1, 1, generator=generator).to(states.device) < drop_prob
        if not dropped.any():
            return states
        layout = self.prompt_layout("")
        hidden = self.llm(
            self.embed(collate([layout], self.tokenizer.special.pad, device=self.device), [])
        )
        return torch.where(
            dropped, dreams.gather(hidden, self.queries, [(0, layout.queries[0][1])]), states
        )

    # -----------------------------------------------------------------------------------------------------------------
    # Use

    @torch.no_grad()
    def dream(
        self,
        prompts,
        seed: int = 0,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt=None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        progress: bool = False,
    ):
        """Paints what the dream queries gather from a prompt.

        Args:
            prompts: a str or Document gives one picture; a list of them gives a list, painted as one batch.
            seed: of the noise; picture i of a list has seed + i, and is what that seed gives alone.
            num_inference_steps, guidance_scale: None is the checkpoint's default.
            negative_prompt: str or Document to push away from; None is the empty prompt.
            latents: the noise to start from, shape (batch, channels, height, width) in latent cells, N(0, 1).
            output_type: "pil"; "pt", shape (3, height, width) each, RGB in [0, 1]; or "latent", at unit scale.
            progress: show a bar.

        Returns:
            A picture, or a list of pictures.

        Raises:
            TypeError: for a prompt that is neither str nor Document (a bare image: put it into a Document).
            ValueError: for an empty list, an unknown output type, text with a special token, a prompt longer than the
                context, steps below 1, or latents of another shape.
        """
        batch = as_prompts(prompts)
        self.check_painting(len(batch), num_inference_steps, guidance_scale, latents, output_type)
        for prompt in [negative_prompt or "", *batch]:
            self.prompt_layout(prompt)  # what does not fit is refused before any work is done
        painted = self.paint(
            self.encode(batch),
            seed,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            latents=latents,
            output_type=output_type,
            progress=progress,
        )
        return painted if isinstance(prompts, (list, tuple)) else painted[0]

    def check_painting(
        self,
        pictures: int,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        latents: Tensor | None,
        output_type: str,
    ) -> tuple[int, float]:
        """Steps and guidance scale of so many pictures; ValueError for options that do not fit, before any work is done."""
        shape = (pictures, *self.decoder.latent_shape)
        if output_type not in ("pil", "pt", "latent"):
            raise ValueError(f'output_type is "pil", "pt" or "latent", not {output_type!r}')
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)} were given; these prompts need {shape}"
            )
        return self.decoder.sampling_options(num_inference_steps, guidance_scale)

    @torch.no_grad()
    def paint(
        self,
        states: Tensor,
        seed: int | list[int] = 0,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt=None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        progress: bool = False,
    ) -> list:
        """Paints from what dream queries gathered: the second half of `dream`, which is `paint(encode(prompts))`.

        Args:
            states: as from `encode`, shape (batch, queries, hidden); whatever was done to them since.
            seed: as in `dream`; or a list with one for each picture, all the same to compare pictures from the same noise.
            others: as in `dream`.

        Returns:
            A list of pictures.

        Raises:
            ValueError: as `dream`, and for states of another shape, or another number of seeds.
        """
        wanted = (self.queries, self.dream_queries.shape[-1])
        if states.dim() != 3 or tuple(states.shape[1:]) != wanted:
            raise ValueError(
                f"states have the shape (batch, {wanted[0]}, {wanted[1]}), not {tuple(states.shape)}"
            )
        steps, scale = self.check_painting(
            len(states), num_inference_steps, guidance_scale, latents, output_type
        )
        seeds = (
            [seed + number for number in range(len(states))]
            if isinstance(seed, int)
            else list(seed)
        )
        if len(seeds) != len(states):
            raise ValueError(f"{len(seeds)} seeds were given for {len(states)} pictures")
        projector, null = self.decoder.projector, None
        if scale > 1:
            null = projector(self.null_states(negative_prompt)).expand(len(states), -1, -1)
        painted = self.decoder.sample_seeded(
            projector(states), null, seeds, steps, scale, latents, progress
        )
        if output_type == "latent":
            return list(painted)
        painted = self.decoder.decode(painted)
        return to_pil(painted) if output_type == "pil" else list(painted)

    def chat(self, turn, max_new_tokens: int = 128) -> str:
        """Answers one user turn, greedily.

        Args:
            turn: a str, or a list of str and PIL images in order.
            max_new_tokens: where to stop at the latest.

        Raises:
            TypeError, ValueError: for an empty turn, other items, or one longer than the context.
        """
        return answer(self, turn, max_new_tokens)

    def write(
        self,
        prompt,
        max_images: int = 3,
        max_new_tokens: int = 200,
        seed: int = 0,
        temperature: float = 0.8,
        top_p: float = 0.95,
        **dream_options,
    ) -> Document:
        """Goes on writing, and paints wherever it dreams: the interleaved loop of `generate.py`.

        Args:
            prompt: str or Document to go on from.
            max_images: where it would start one more, the document ends.
            max_new_tokens: how many sampled tokens at most.
            seed: of text and pictures; picture i is painted with seed + i.
            temperature: 0 always takes the likeliest token.
            top_p: sample among the likeliest tokens that together have this probability.
            dream_options: `num_inference_steps`, `guidance_scale`, `negative_prompt`, as in `dream`.

        Returns:
            The prompt and what was added, with the painted pictures as its targets.
        """
        return write(
            self,
            as_document(prompt),
            max_images,
            max_new_tokens,
            seed,
            temperature,
            top_p,
            **dream_options,
        )


def pictures_of(
    documents: list[Document], blocks: list[list[tuple[int, int]]]
) -> list[Image.Image]:
    """The pictures that blocks stand for, document by document; a block is (number of the image, position), as in `Layout`."""
    return [
        document.images[number]
        for document, places in zip(documents, blocks, strict=True)
        for number, _ in places
    ]


def as_document(prompt) -> Document:
    """A prompt as a Document; TypeError for anything but str and Document."""
    if isinstance(prompt, Document):
        return prompt
    if isinstance(prompt, str):
        return Document([prompt] if prompt.strip() else [])
    if isinstance(prompt, Image.Image):
        raise TypeError(
            'a bare image is no prompt: put it into a document, minidream.Document([image, "the same but ..."])'
        )
    raise TypeError(f"a prompt is a str or a minidream.Document, not a {type(prompt).__name__}")


def as_prompts(prompts) -> list:
    """One prompt or a list as a list; ValueError if it is empty, TypeError for items that are no prompts."""
    prompts = list(prompts) if isinstance(prompts, (list, tuple)) else [prompts]
    if not prompts:
        raise ValueError("the list of prompts is empty: give at least one str or Document")
    for prompt in prompts:
        as_document(prompt)
    return prompts
