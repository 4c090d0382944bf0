"""Plug-ins: the language model writes calls, and other models read and paint pictures for it.

Visual ChatGPT (Wu et al. 2023), VisProg (Gupta & Kembhavi 2023), TaskMatrix.AI (Liang et al.
2023), HuggingGPT (Shen et al. 2023), GPT4Tools (Yang et al. 2023), MM-ReAct (Yang et al. 2023),
ViperGPT (Suris et al. 2023). No picture enters the language model, where the word "image"
replaces it, and no gradient comes from its tools. `look(image, "question")` asks a captioner
about the given picture; the answer enters the context as the next turn. `draw("caption")` paints
with the toy's Stable Diffusion.

The captioner is an encode-only family, trained in the first half of the steps; the calls are
learned in the second half. In the real systems the prompt describes the tools, and the language
model is not trained for them. A model as small as the toy has to be (as in GPT4Tools).
"""

import random
import re

import torch

from ..documents import Document, Layout
from ..model import DreamLLM
from ..trainer.lessons import dialogue
from ..trainer.loop import Recipe
from ..weights.toy import paint_from_captions
from ..world.language import description
from ..world.questions import DESCRIBE
from .encode_only import instructions
from .family import Family, FamilyPlan, base_model, with_new_words
from .samples import IMAGE_KINDS, PROMPT_KINDS, TEXT_KINDS, Sample

WORDS = ("draw", "look", "image", "(", ")", '"')
LOOK_PATTERN = re.compile(r'look \( image, " (.+) " \)')
DRAW_PATTERN = re.compile(r'draw \( " (.+) " \)')
MAX_CALLS = 3  # for one reply
MAX_CAPTION_TOKENS = 30  # the text tower reads 32 tokens, two of them <s> and </s>


def input_text(given: tuple) -> str:
    """The input of a sample as text, with the word "image" in place of every picture."""
    return " ".join(item if isinstance(item, str) else "image" for item in given)


def look_call(question: str) -> str:
    """The call that asks about the given picture."""
    return f'look ( image, " {question} " )'


def draw_call(caption: str) -> str:
    """The call that paints."""
    return f'draw ( " {caption} " )'


def with_result(context: str, call: str, result: str) -> str:
    """The context after a tool has answered: the result enters as the next turn of the user."""
    return f"{context} answer: {call} question: {result}"


def transcript(sample: Sample) -> list[tuple[str, str]]:
    """How a sample is solved with tools.

    A question about a picture is passed on to `look`, and the result is the reply. To edit a
    picture, the model asks for a description of it and draws it again from a description of what
    it should become.

    Returns:
        Turns, each (context, what to write next); what is written last is the reply.
    """
    context = input_text(sample.given)
    reply = sample.reply if sample.kind in TEXT_KINDS else draw_call(sample.caption)
    if sample.kind in PROMPT_KINDS:
        return [(context, reply)]
    if sample.kind in TEXT_KINDS:
        question, result = sample.given[-1], sample.reply
    else:
        question, result = DESCRIBE, description(sample.scenes[0])
    call = look_call(question)
    return [(context, call), (with_result(context, call, result), reply)]


class Plugin(Family):
    """The family: `model` writes calls. Its vision tower is never used.

    Args:
        model: its vocabulary has the words of calls.
        recipe: of the training that teaches the calls.
        captioner: the family that answers `look`, trained before. Its U-Net carries out `draw`.
    """

    def __init__(self, model: DreamLLM, recipe: Recipe, captioner: Family):
        kinds = IMAGE_KINDS + TEXT_KINDS
        super().__init__("plugin", model, recipe, kinds, [model.llm], earlier_phases=(captioner,))

    @property
    def captioner(self) -> DreamLLM:
        """The model that answers questions about pictures."""
        return self.earlier_phases[0].model

    def batch(self, seed: int, step: int, process: int) -> list[tuple[Sample, int]]:
        """Samples, each with the index of the turn of its transcript that is learned."""
        rng = random.Random(f"plugin {seed} {step} {process}")
        samples = super().batch(seed, step, process)
        return [(sample, rng.randrange(len(transcript(sample)))) for sample in samples]

    def lay_out(self, sample: tuple[Sample, int]) -> tuple[Layout, Document]:
        """One turn of a sample's transcript as one sequence of words."""
        sample, turn = sample
        context, written = transcript(sample)[turn]
        return dialogue(self.model, [context], written)

    @torch.no_grad()
    def replies(self, samples: list[Sample]) -> list:
        """As `Family.replies`; all pictures are painted together."""
        texts = [self.solve(sample) for sample in samples]
        if samples[0].replies_in_text:
            return [text or "" for text in texts]
        captions = [self.caption_to_draw(text or "") for text in texts]
        # Where there is no caption, an empty one is painted and discarded: picture i keeps seed i.
        pictures = paint_from_captions(self.captioner, [caption or "" for caption in captions])
        return [picture if caption else None for picture, caption in zip(pictures, captions)]

    def solve(self, sample: Sample) -> str | None:
        """Writes and carries out calls of `look` until something else is written.

        Returns:
            What was written last, an answer or a call of `draw`; None if `MAX_CALLS` were used
            up, or if there is no picture to look at.
        """
        context = input_text(sample.given)
        for _ in range(MAX_CALLS):
            text = self.model.chat(context, max_new_tokens=40)
            call = LOOK_PATTERN.fullmatch(text)
            if call is None:
                return text
            if not sample.pictures:
                return None
            result = self.answer_about(sample.pictures[0], call[1])
            context = with_result(context, look_call(call[1]), result)
        return None

    def answer_about(self, picture, question: str) -> str:
        """The captioner's answer; empty if the question has words that it does not know."""
        try:
            return self.captioner.chat([picture, question], max_new_tokens=24)
        except ValueError:
            return ""

    def caption_to_draw(self, text: str) -> str | None:
        """The caption of a call of `draw`; None unless the toy's Stable Diffusion can read it.

        It must have known words only, and no more than the text tower has room for.
        """
        call = DRAW_PATTERN.fullmatch(text)
        if call is None:
            return None
        try:
            tokens = self.captioner.tokenizer.encode(call[1])
        except ValueError:
            return None
        return call[1] if len(tokens) <= MAX_CAPTION_TOKENS else None


def plugin(plan: FamilyPlan) -> Plugin:
    """Trains the captioner, then the language model that calls it."""
    captioner = instructions(plan, share=0.5)
    model = with_new_words(base_model(), WORDS)
    return Plugin(model, plan.recipe(1e-3, share=0.5), captioner)
