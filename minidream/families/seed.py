"""SEED (Ge et al. 2023a; as SEED-LLaMA, Ge et al. 2023b): codes that mean something are words.

As in `discrete.py`, one language model reads and writes words and codes, with one loss. But its
codes are not those of an autoencoder of pixels. A *tokenizer* makes them from CLIP's states of the
picture. A causal query former, in which each query sees only earlier ones, as a word does, makes
each picture a row of 32 vectors; the last vector, which has seen all others, is aligned with the
text state of a caption; each vector becomes a code; and a second former makes image states of the
codes again. A U-Net that was trained on image states (`image_decoder.py`) paints those.

What is simpler than in SEED:
- SEED's first tokenizer led to text states of a frozen Stable Diffusion, its second one to the
  single image state of unCLIP; here it leads to 32 image states, and their painter is trained here.
- Its query former begins as BLIP-2's and learns alignment, then codes, in two stages from millions
  of pictures; ours learns all at once in a third of the steps.
- Its 8,192 codes are a learned codebook. Ours are the 256 corners and inner points of a 4 x 4 x 4 x
  4 grid, to which four numbers are rounded (finite scalar quantization, Mentzer et al. 2024): a
  learned codebook needs longer training, or most of its codes are never used.
- Its language models are pretrained on pictures with text, then instructed; ours learns once.
"""

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..model import DreamLLM
from ..trainer.loop import Recipe
from ..weights import toy
from ..weights.toy import clip_text_states
from .discrete import DiscreteTokens
from .family import FamilyPlan, base_model, with_new_words
from .image_decoder import ImageDecoder, StateEncoder
from .qformer import QueryFormer
from .samples import IMAGE_KINDS, Sample, draw_batch

LEVELS, DIGITS = 4, 4  # a code is so many digits with so many values each
CODES = LEVELS**DIGITS
TOKENS = 32  # codes of a picture, and image states that they are decoded to
ALIGNMENT_WEIGHT = 0.1  # of the contrastive loss, relative to the error of the states


def rounded(numbers: Tensor) -> Tensor:
    """Rounds numbers to -1.5, -0.5, 0.5 or 1.5, with a straight-through gradient.

    They are first squeezed into (-2, 2). Rounding has no gradient; so that of the result passes to
    the squeezed numbers as if they had not been rounded. Any shape.
    """
    squeezed = torch.tanh(numbers) * (LEVELS / 2)
    half = (LEVELS - 1) / 2
    return squeezed + ((squeezed.floor() + 0.5).clamp(-half, half) - squeezed).detach()


def codes_of(points: Tensor) -> Tensor:
    """Points of the grid, as from `rounded`, (..., digits) to codes in [0, CODES), shape (...)."""
    place_values = LEVELS ** torch.arange(DIGITS, device=points.device)
    return ((points + (LEVELS - 1) / 2).round().long() * place_values).sum(dim=-1)


def points_of(codes: Tensor) -> Tensor:
    """Codes (...) to points of the grid (..., digits): the inverse of `codes_of`."""
    place_values = LEVELS ** torch.arange(DIGITS, device=codes.device)
    digits = rearrange(codes, "... -> ... 1") // place_values % LEVELS
    return digits.float() - (LEVELS - 1) / 2


class Tokenizer(nn.Module):
    """Pictures to codes and codes to image states, and the phase that trains this.

    Args:
        model: its vision tower is used.
        recipe: how long and how fast it learns.
    """

    name, training_kinds = "tokenizer", IMAGE_KINDS

    def __init__(self, model: DreamLLM, recipe: Recipe):
        super().__init__()
        dim = toy.VISION_SIZE
        self.recipe, self.words = recipe, model.tokenizer
        self.encoder = StateEncoder(model.vision, TOKENS).requires_grad_(False)
        self.text_tower = toy.pretrained_text_tower()
        self.former = QueryFormer(dim, dim, TOKENS, causal=True)
        self.into, self.out = nn.Linear(dim, DIGITS), nn.Linear(DIGITS, dim)
        self.positions = nn.Parameter(0.5 * torch.randn(TOKENS, dim))
        self.reverse_former = QueryFormer(dim, dim, TOKENS)
        self.align_picture = nn.Linear(dim, 64)
        self.align_text = nn.Linear(toy.CONDITION_SIZE, 64)
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def batch(self, seed: int, step: int, process: int) -> list[Sample]:
        """Samples of one kind, of which the last picture and its caption count."""
        return draw_batch(self.training_kinds, self.recipe.batch, seed, step, process)

    def decode(self, points: Tensor) -> Tensor:
        """Points of the grid (batch, tokens, digits) to image states (batch, states, dim)."""
        return self.reverse_former(self.out(points) + self.positions)

    def forward(self, batch: list[Sample], generator: torch.Generator) -> dict:
        """The squared error of the states ("error"), and the contrastive loss ("match")."""
        targets = self.encoder.states_of([sample.reply for sample in batch])
        vectors = self.former(targets)
        error = F.mse_loss(self.decode(rounded(self.into(vectors))), targets)
        match = self.match(vectors[:, -1], [sample.caption for sample in batch])
        return {"total": error + ALIGNMENT_WEIGHT * match, "error": error, "match": match}

    def match(self, pictures: Tensor, captions: list[str]) -> Tensor:
        """How badly pictures and captions of a batch find one another; equal captions are one.

        Args:
            pictures: the last vector of each, shape (batch, dim).
            captions: one of each.

        Returns:
            The mean cross entropy in both directions, a scalar.
        """
        with torch.no_grad():
            states = clip_text_states(self.text_tower, self.words, captions)
            # The state at the end of the caption has read all of it.
            ends = [len(self.words.encode(caption)) + 1 for caption in captions]
            texts = states[torch.arange(len(states)), ends]
        one = F.normalize(self.align_picture(pictures), dim=-1)
        other = F.normalize(self.align_text(texts), dim=-1)
        scores = self.log_scale.clamp(max=4.6).exp() * one @ other.T
        same = torch.tensor([[a == b for b in captions] for a in captions], device=scores.device)
        wanted = same / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted)) / 2

    @torch.no_grad()
    def encode_pictures(self, pictures: list[Image.Image]) -> Tensor:
        """The codes of PIL images, shape (pictures, tokens)."""
        return codes_of(rounded(self.into(self.former(self.encoder.states_of(pictures)))))

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        """Codes (batch, tokens) to image states (batch, states, dim)."""
        return self.decode(points_of(codes.to(self.positions.device)))


class Seed(DiscreteTokens):
    """The family: as `DiscreteTokens`, with the tokenizer's codes, painted by the U-Net.

    Args:
        model: its vocabulary has a word for each code.
        recipe: of the language model.
        painter: of image states, trained first.
        tokenizer: trained next.
    """

    codes_per_picture = TOKENS

    def __init__(
        self, model: DreamLLM, recipe: Recipe, painter: ImageDecoder, tokenizer: Tokenizer
    ):
        super().__init__("seed", model, recipe, (painter, tokenizer))

    def encode_pictures(self, pictures: list[Image.Image]) -> Tensor:
        """As `Tokenizer.encode_pictures`."""
        return self.earlier_phases[1].encode_pictures(pictures)

    def paint_codes(self, codes: Tensor) -> list[Image.Image]:
        """Paints the image states of codes; picture i has seed i."""
        painter, tokenizer = self.earlier_phases
        return painter.paint(tokenizer.decode_codes(codes))

    def extra_results(self, evaluation) -> dict:
        """ "teacher", as `ImageDecoder.teacher`, and "codes": the same from the true codes."""
        painter, tokenizer = self.earlier_phases

        def decoded(samples: list[Sample]) -> Tensor:
            codes = tokenizer.encode_pictures([sample.reply for sample in samples])
            return tokenizer.decode_codes(codes)

        codes = painter.teacher(evaluation, decoded)
        return {"teacher": painter.teacher(evaluation), "codes": codes}


def seed(plan: FamilyPlan) -> Seed:
    """Trains the painter, the tokenizer, then the language model on words and codes."""
    model = with_new_words(base_model(), tuple(f"code{index}" for index in range(CODES)))
    painter = ImageDecoder(model, plan.recipe(1e-3), TOKENS)
    tokenizer = Tokenizer(model, plan.recipe(2e-3, share=1 / 3))
    return Seed(model, plan.recipe(1e-3, share=2 / 3), painter, tokenizer)
