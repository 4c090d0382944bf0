"""Plug-ins: the language model writes calls, and others see and paint for it. No picture ever enters it, no gradient leaves it.

Visual ChatGPT (Wu et al. 2023), VisProg (Gupta & Kembhavi 2023), TaskMatrix.AI (Liang et al. 2023), HuggingGPT (Shen et al. 2023), GPT4Tools (Yang et al. 2023), MM-ReAct
(Yang et al. 2023), ViperGPT (Suris et al. 2023). A given picture is the word "image". `look(image, "question")` asks a captioner about
it, and what it says goes back into the context as the next turn; `draw("caption")` paints with the toy's Stable Diffusion.
The captioner is an encode-only model, trained here in half of the budget; the other half teaches the calls. The real
systems are told of their tools in the prompt and are never trained for them; a toy that small has to be (as in GPT4Tools).
"""

import random
import re

import torch

from ..train.lessons import description, dialogue
from ..weights.toy import dream_of_clip
from ..world.language import DESCRIBE
from .encode_only import instructions
from .family import Family, FamilyPlan, base_model, with_words
from .samples import IMAGE_KINDS, TEXT_KINDS, Sample

WORDS = ("draw", "look", "image", "(", ")", '"')
LOOK, DRAW = re.compile(r'look \( image, " (.+) " \)'), re.compile(r'draw \( " (.+) " \)')
TURNS = 3  # calls for one reply, at most
LONGEST = 30  # words of a caption: the text tower reads 32 with <s> and </s>


def as_words(given) -> str:
    """What is given, with every picture as the word "image"."""
    return " ".join(item if isinstance(item, str) else "image" for item in given)


def look(question: str) -> str:
    """The call that asks about the given picture."""
    return f'look ( image, " {question} " )'


def draw(caption: str) -> str:
    """The call that paints."""
    return f'draw ( " {caption} " )'


def transcript(sample: Sample) -> list[tuple[str, str]]:
    """How a sample is solved with tools: turns, each (everything so far, what to write next). The last one is the reply.

    A question about a picture is passed on to `look`, and its answer is the reply. A picture that is changed is looked
    at, described, and drawn anew from the description of what it shall become.
    """
    given = as_words(sample.given)
    if sample.kind == "paint":
        return [(given, draw(sample.caption))]
    question, seen = (
        (sample.given[-1], sample.reply)
        if sample.kind in TEXT_KINDS
        else (DESCRIBE, description(sample.scenes[0]))
    )
    reply = sample.reply if sample.kind in TEXT_KINDS else draw(sample.caption)
    return [(given, look(question)), (after(given, look(question), seen), reply)]


def after(so_far: str, call: str, result: str) -> str:
    """The context once a tool has answered: its result stands where the user's next turn would."""
    return f"{so_far} answer: {call} question: {result}"


class Plugin(Family):
    """The family: `model` writes the calls; its own eyes are never used, its U-Net is the tool that draws.

    Args:
        captioner: the family that looks.
        others: as for `Family`.
    """

    def __init__(self, captioner: Family, *others):
        super().__init__(*others)
        self.captioner = [
            captioner
        ]  # in a list: it is trained before, and no part of this phase (nor of `.to()`)

    @property
    def phases(self):
        """The captioner, then who calls it."""
        return [*self.captioner, self]

    def batch(self, seed, step, process):
        """Samples, and which turn of each is learned."""
        rng = random.Random(f"plugin {seed} {step} {process}")
        return [
            (sample, rng.randrange(len(transcript(sample))))
            for sample in super().batch(seed, step, process)
        ]

    def lay_out(self, sample):
        """One turn of a sample's transcript, words only."""
        sample, turn = sample
        return dialogue(self.model, [transcript(sample)[turn][0]], transcript(sample)[turn][1])

    @torch.no_grad()
    def replies(self, samples):
        """Writes, calls, reads what came back, and goes on; all drawings at once."""
        said = [self.solve(sample) for sample in samples]
        if isinstance(samples[0].reply, str):
            return [text if text else "" for text in said]
        captions = [
            match[1] if (match := DRAW.fullmatch(text or "")) and self.drawable(match[1]) else None
            for text in said
        ]
        # Something is painted in the place of what cannot be drawn, and thrown away: picture i has seed i.
        painted = dream_of_clip(self.captioner[0].model, [caption or "" for caption in captions])
        return [picture if caption else None for picture, caption in zip(painted, captions)]

    def solve(self, sample: Sample) -> str | None:
        """The last thing written: an answer, or a call of `draw`; None if it never came to an end."""
        so_far = as_words(sample.given)
        for _ in range(TURNS):
            text = self.model.chat(so_far, max_new_tokens=40)
            if not (call := LOOK.fullmatch(text)):
                return text
            if not sample.pictures:
                return None
            so_far = after(so_far, look(call[1]), self.looked(sample.pictures[0], call[1]))
        return None

    def looked(self, picture, question: str) -> str:
        """What the captioner says; nothing to a question with words that it does not know."""
        try:
            return self.captioner[0].model.chat([picture, question], max_new_tokens=24)
        except ValueError:
            return ""

    def drawable(self, caption: str) -> bool:
        """Whether the toy's Stable Diffusion can read a caption: its words, and no more of them than it has room for."""
        try:
            return len(self.captioner[0].model.tokenizer.encode(caption)) <= LONGEST
        except ValueError:
            return False


def plugin(plan: FamilyPlan) -> Plugin:
    """The captioner learns, then the language model learns to call."""
    captioner = instructions(plan, share=0.5)
    model = with_words(base_model(), WORDS)
    return Plugin(
        captioner,
        "plugin",
        model,
        plan.recipe(1e-3, share=0.5),
        IMAGE_KINDS + TEXT_KINDS,
        [model.llm],
    )
