"""Discrete tokens: pictures are words too, and one autoregressive model reads and writes both.

OFA (Wang et al. 2022), Unified-IO (Lu et al. 2022), DaVinci (Diao et al. 2023), CM3Leon (Yu et
al. 2023). All of them write pictures as codes; here, as in CM3Leon, pictures are read as codes
too: 64 of them, row by row. There is one loss, and no CLIP, dream queries or diffusion. The
codebook (`codebook.py`) is trained first, in a sixth of the steps.

The comparison is hard on this family: it has no pretrained vision tower, no pretrained painter,
and no guidance when it paints (CM3Leon has guidance).
"""

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..documents import TEMPLATES, Batch, Document, Layout, collate
from ..generate import choose
from ..images import to_pil
from ..llm import Cache
from ..model import DreamLLM
from ..trainer.loop import Recipe
from ..trainer.processes import joined_losses
from .codebook import Codebook, CodebookStage
from .family import Family, FamilyPlan, base_model, with_new_words
from .samples import IMAGE_KINDS, TEXT_KINDS, Sample

CODES = 256
# Codes are sampled from the likeliest ones that together have this probability. Words are not
# sampled.
TOP_P = 0.9


class DiscreteTokens(Family):
    """The family.

    `encode_pictures` and `paint_codes` say what codes are; in `seed.py` they are others.

    Args:
        name: of the family.
        model: its vocabulary has a word for each code.
        recipe: of the language model.
        earlier_phases: train what makes and paints codes, before the language model learns.
    """

    codes_per_picture = 64

    def __init__(self, name: str, model: DreamLLM, recipe: Recipe, earlier_phases: tuple):
        kinds = IMAGE_KINDS + TEXT_KINDS
        super().__init__(name, model, recipe, kinds, [model.llm], earlier_phases=earlier_phases)

    @property
    def codebook(self) -> Codebook:
        """Maps latents to codes and back."""
        return self.earlier_phases[0].codebook

    def encode_pictures(self, pictures: list[Image.Image]) -> Tensor:
        """The codes of PIL images, shape (pictures, codes_per_picture)."""
        return self.codebook.encode_latents(self.model.decoder.latents_of(pictures))

    def paint_codes(self, codes: Tensor) -> list[Image.Image]:
        """Codes (pictures, codes_per_picture) to PIL images."""
        decoder = self.model.decoder
        latents = self.codebook.decode_codes(codes.to(decoder.device), decoder.latent_shape[1])
        return to_pil(decoder.decode(latents))

    @property
    def first_code(self) -> int:
        """The token id of code 0; those of the other codes follow."""
        return self.model.tokenizer.ids["code0"]

    def picture_tokens(self, samples: list[Sample], replies: bool) -> list[list[list[int]]]:
        """The token ids of each sample's pictures, `codes_per_picture` for each.

        Args:
            samples: of one kind or several.
            replies: whether a picture that is the reply is included, as the last one.
        """
        pictures = [list(sample.pictures) for sample in samples]
        for own, sample in zip(pictures, samples):
            if replies and not sample.replies_in_text:
                own.append(sample.reply)
        if not any(pictures):
            return [[] for _ in samples]
        codes = self.encode_pictures([picture for own in pictures for picture in own])
        tokens = iter((self.first_code + codes).tolist())
        return [[next(tokens) for _ in own] for own in pictures]

    def input_layout(self, sample: Sample, tokens: list[list[int]]) -> Layout:
        """The input up to the start of the reply, without training targets.

        Args:
            sample: its reply is not used.
            tokens: of the pictures of the input, in order.
        """
        special, encode = self.model.tokenizer.special, self.model.tokenizer.encode
        before, after = TEMPLATES[self.model.config.template]
        remaining = iter(tokens)
        ids = [special.bos, *(encode(before) if sample.replies_in_text else [])]
        for item in sample.given:
            if isinstance(item, str):
                ids += encode(item)
            else:
                ids += [special.im_start, *next(remaining), special.im_end]
        ids += encode(after) if sample.replies_in_text else [special.im_start]
        layout = Layout()
        layout.add(ids, learned=False)
        return layout

    def token_layout(self, sample: Sample, tokens: list[list[int]]) -> Layout:
        """A whole sample as words and codes; `tokens` of all its pictures, that of a reply last."""
        encode, eos = self.model.tokenizer.encode, self.model.tokenizer.special.eos
        layout = self.input_layout(sample, tokens)
        reply = encode(sample.reply) if sample.replies_in_text else tokens[-1]
        layout.add([*reply, eos], learned=True)
        before, after = TEMPLATES[self.model.config.template]
        for question, answer in sample.follow_ups:
            layout.add(encode(f"{before} {question} {after}"), learned=False)
            layout.add([*encode(answer), eos], learned=True)
        return layout

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """The only loss: cross entropy of the next word or code."""
        layouts = list(map(self.token_layout, batch, self.picture_tokens(batch, replies=True)))
        no_images = [Document([])] * len(batch)
        losses = joined_losses(self.model, layouts, no_images, generator)
        return {"total": losses.language}

    @torch.no_grad()
    def replies(self, samples: list[Sample]) -> list:
        """As `Family.replies`. Codes are sampled: the likeliest one of each cell is background."""
        layouts = map(self.input_layout, samples, self.picture_tokens(samples, replies=False))
        tokenizer = self.model.tokenizer
        pad = tokenizer.special.pad
        batch = collate(list(layouts), pad, side="left", device=self.model.device)
        if samples[0].replies_in_text:
            return [tokenizer.decode(row) for row in self.generate(batch, 24, codes=False)]
        tokens = self.generate(batch, self.codes_per_picture, codes=True)
        return self.paint_codes(torch.tensor(tokens) - self.first_code)

    def generate(self, batch: Batch, tokens: int, codes: bool) -> list[list[int]]:
        """The token ids that continue each row of a batch.

        Args:
            batch: padded on the left.
            tokens: how many codes; or at most how many words, up to `</s>`.
            codes: samples codes, row i with seed i, if True; else takes the likeliest words.
        """
        llm, special, cache = self.model.llm, self.model.tokenizer.special, Cache()
        forbidden = torch.zeros(llm.config.vocab_size, dtype=torch.bool, device=self.model.device)
        if codes:
            forbidden[: self.first_code] = True
        else:
            forbidden[self.first_code :] = True
            forbidden[[*special.never_sampled, special.dream_start]] = True
        temperature = 1.0 if codes else 0.0
        generators = [torch.Generator().manual_seed(row) for row in range(len(batch.ids))]
        rows = [[] for _ in generators]
        real = torch.ones(len(rows), 1, dtype=torch.bool, device=self.model.device)
        hidden = llm(llm.embed_tokens(batch.ids), batch.mask, cache)
        for _ in range(tokens):
            logits = llm.logits(hidden[:, -1]).masked_fill(forbidden, -torch.inf)
            for row, row_logits, generator in zip(rows, logits, generators):
                row.append(choose(row_logits, temperature, TOP_P, generator))
            if not codes and all(special.eos in row for row in rows):
                break
            last = torch.tensor([row[-1] for row in rows], device=self.model.device)
            hidden = llm(llm.embed_tokens(rearrange(last, "batch -> batch 1")), real, cache)
        return [row[: row.index(special.eos)] if special.eos in row else row for row in rows]


def discrete(plan: FamilyPlan) -> DiscreteTokens:
    """Trains the codebook, then all of the language model on words and codes."""
    model = with_new_words(base_model(), tuple(f"code{index}" for index in range(CODES)))
    stage = CodebookStage(model.decoder, plan.recipe(2e-2, share=1 / 6), CODES)
    return DiscreteTokens("discrete", model, plan.recipe(1e-3, share=5 / 6), (stage,))
