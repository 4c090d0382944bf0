"""Discrete tokens: pictures are words too, and one autoregressive model over both says everything.

OFA (Wang et al. 2022), Unified-IO (Lu et al. 2022), DaVinci (Diao et al. 2023), CM3Leon (Yu et al. 2023). All of them write pictures
as codes; here, as in CM3Leon, they are read as codes too: 64 of them, row by row. No CLIP, no queries, no diffusion, one loss.
The codebook (`codebook.py`) learns first, in a sixth of the budget. Beside the other families this one has it hard: no
pretrained eyes, no pretrained painter, and no guidance when it paints (CM3Leon has that).
"""

import torch
from einops import rearrange

from ..documents import TEMPLATES, Batch, Document, Layout, collate
from ..generate import choose
from ..images import to_pil
from ..llm import Cache
from .codebook import Codebook, CodebookStage
from .family import Family, FamilyPlan, base_model, with_words
from .samples import IMAGE_KINDS, TEXT_KINDS, Sample

CODES = 256
NUCLEUS = 0.9  # the likeliest codes that together have this chance are drawn from; of words the likeliest is taken


class Discrete(Family):
    """The family.

    Args:
        stage: of the codebook, which learns before.
        others: as for `Family`.
    """

    def __init__(self, stage: CodebookStage, *others):
        super().__init__(*others)
        self.stage = [
            stage
        ]  # in a list: what it learned is frozen here, and no part of this phase (nor of `.to()`)

    @property
    def phases(self):
        """The codebook, then the language model."""
        return [*self.stage, self]

    @property
    def codebook(self) -> Codebook:
        """Pictures to codes and back."""
        return self.stage[0].codebook

    @property
    def first_code(self) -> int:
        """Id of code 0; the others follow."""
        return self.model.tokenizer.ids["code0"]

    def codes_of(self, samples: list[Sample], replies: bool) -> list[list[list[int]]]:
        """The pictures of each sample as token ids, 64 for each; with the one that is the reply, or without."""
        pictures = [
            [
                *sample.pictures,
                *([sample.reply] if replies and not isinstance(sample.reply, str) else []),
            ]
            for sample in samples
        ]
        if not any(pictures):
            return [[] for _ in samples]
        latents = self.model.decoder.latents_of([picture for some in pictures for picture in some])
        codes = iter((self.first_code + self.codebook.encode_latents(latents)).tolist())
        return [[next(codes) for _ in some] for some in pictures]

    def opening(self, sample: Sample, codes: list[list[int]]) -> Layout:
        """What is given, pictures as codes, up to where the reply begins; nothing of it is learned."""
        special, encode, layout, codes = (
            self.model.tokenizer.special,
            self.model.tokenizer.encode,
            Layout(),
            iter(codes),
        )
        before, after = (
            TEMPLATES[self.model.config.template] if isinstance(sample.reply, str) else ("", "")
        )
        layout.add([special.bos, *encode(before)], learned=False)
        for item in sample.given:
            layout.add(
                encode(item)
                if isinstance(item, str)
                else [special.im_start, *next(codes), special.im_end],
                learned=False,
            )
        layout.add(
            encode(after) if isinstance(sample.reply, str) else [special.im_start], learned=False
        )
        return layout

    def lay_out(self, sample: Sample, codes: list[list[int]]) -> Layout:
        """A sample as words and codes; `codes` of all its pictures, the reply's last."""
        tokenizer = self.model.tokenizer
        layout = self.opening(sample, codes)
        layout.add(
            [
                *(tokenizer.encode(sample.reply) if isinstance(sample.reply, str) else codes[-1]),
                tokenizer.special.eos,
            ],
            learned=True,
        )
        before, after = TEMPLATES[self.model.config.template]
        for question, reply in sample.follow_ups:
            layout.add(tokenizer.encode(f"{before} {question} {after}"), learned=False)
            layout.add([*tokenizer.encode(reply), tokenizer.special.eos], learned=True)
        return layout

    def forward(self, batch, generator):
        """The one loss: cross entropy of the next word or code."""
        layouts = list(map(self.lay_out, batch, self.codes_of(batch, replies=True)))
        return {
            "total": self.model.loss_of_layouts(
                layouts, [Document([])] * len(batch), generator
            ).language
        }

    @torch.no_grad()
    def replies(self, samples):
        """Words are the likeliest; codes are drawn, since the likeliest of each cell is always background."""
        layouts = list(map(self.opening, samples, self.codes_of(samples, replies=False)))
        batch = collate(
            layouts, self.model.tokenizer.special.pad, side="left", device=self.model.device
        )
        if isinstance(samples[0].reply, str):
            return [self.model.tokenizer.decode(row) for row in self.continued(batch, 24)]
        drawn = torch.tensor(self.continued(batch, 64, codes=True)) - self.first_code
        decoder = self.model.decoder
        return to_pil(
            decoder.decode(
                self.codebook.decode_codes(drawn.to(decoder.device), decoder.latent_shape[1])
            )
        )

    def continued(self, batch: Batch, tokens: int, codes: bool = False) -> list[list[int]]:
        """What follows each row: words up to `</s>`, or exactly so many codes; row i is drawn with seed i."""
        llm, special, cache = self.model.llm, self.model.tokenizer.special, Cache()
        generators = [torch.Generator().manual_seed(row) for row in range(len(batch.ids))]
        hidden = llm(llm.embed_tokens(batch.ids), batch.mask, cache)
        rows, here = (
            [[] for _ in generators],
            torch.ones(len(batch.ids), 1, dtype=torch.bool, device=batch.ids.device),
        )
        for _ in range(tokens):
            logits = llm.logits(hidden[:, -1])
            logits[
                :, slice(0, self.first_code) if codes else slice(self.first_code, None)
            ] = -torch.inf
            if not codes:
                logits[:, [*special.never_sampled, special.dream_start]] = -torch.inf
            step = [
                choose(row, 1.0 if codes else 0.0, NUCLEUS, generator)
                for row, generator in zip(logits, generators)
            ]
            for row, token in zip(rows, step):
                row.append(token)
            if not codes and all(special.eos in row for row in rows):
                break
            hidden = llm(
                llm.embed_tokens(
                    rearrange(torch.tensor(step, device=here.device), "batch -> batch 1")
                ),
                here,
                cache,
            )
        return [row[: row.index(special.eos)] if special.eos in row else row for row in rows]


def discrete(plan: FamilyPlan) -> Discrete:
    """All of the language model learns, over words and codes; the codebook before it."""
    model = with_words(base_model(), tuple(f"code{number}" for number in range(CODES)))
    stage = CodebookStage(model.decoder, plan.recipe(2e-3, share=1 / 6), CODES)
    return Discrete(
        stage,
        "discrete",
        model,
        plan.recipe(1e-3, share=5 / 6),
        IMAGE_KINDS + TEXT_KINDS,
        [model.llm],
    )
