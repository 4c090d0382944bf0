"""How replies are marked: the same fresh samples for every family.

A reply is right if all of it is; and since small budgets leave few that are, the share of facts that are right is kept too.
"""

import random
from collections import Counter
from collections.abc import Callable

from PIL import Image
from torch import Tensor

from ..images import to_tensor
from ..weights import toy
from ..world.judge import Judge, scenes_by_colour
from ..world.language import parse_caption
from .boxes import box_iou, box_of_words
from .family import Family, FamilyPlan
from .samples import IMAGE_KINDS, SAMPLE_KINDS, Sample, draw_sample, true_box

IOU_THRESHOLD = 0.5  # intersection over union from which on a box counts as right
COMBINATIONS = {"seen": False, "held out": True}


def fact_accuracy(found: tuple | None, wanted: tuple) -> float:
    """Share of the stated facts of one thing (size, colour, shape; background where it is stated) that were found, in [0, 1].

    Args:
        found: as `Scene.facts`; None where a reader found no scene. More than one thing is as wrong as none.
        wanted: of one thing; the background may be None.
    """
    if found is None or len(found[2]) != 1:
        return 0.0
    pairs = [*zip(found[2][0], wanted[2][0]), *([(found[0], wanted[0])] if wanted[0] else [])]
    return sum(one == other for one, other in pairs) / len(pairs)


def text_score(sample: Sample, reply: str) -> float:
    """How right a text is, in [0, 1]: a caption by its facts; a box if it overlaps enough, an answer if it is the word."""
    if sample.kind == "caption":
        return fact_accuracy(parse_caption(reply), sample.expected)
    if sample.kind == "locate":
        box = box_of_words(reply)
        return float(box is not None and box_iou(box, box_of_words(sample.reply)) >= IOU_THRESHOLD)
    return float(reply == sample.reply)


def image_scores(
    judge: Judge, samples: list[Sample], replies: list[Image.Image | None]
) -> list[float]:
    """How right each picture is, by the facts that the judge reads from it, in [0, 1]; no picture is 0."""
    readings = read_pictures(
        replies, lambda pictures: judge.read(pictures.to(next(judge.parameters()).device))
    )
    return [
        0.0 if reading is None else fact_accuracy(reading.facts, sample.expected)
        for sample, reading in zip(samples, readings)
    ]


def read_pictures(replies: list[Image.Image | None], reader: Callable[[Tensor], list]) -> list:
    """What a reader finds in each picture, all read at once; None where there is no picture."""
    there = [reply for reply in replies if reply is not None]
    found = iter(reader(to_tensor(there)) if there else [])
    return [None if reply is None else next(found) for reply in replies]


def keeps_position(sample: Sample) -> bool:
    """Whether the thing of the last picture stands just where, and as large as, it did in the one before."""
    before, after = (
        (thing.x, thing.y, thing.radius)
        for thing in (scene.objects[0] for scene in sample.scenes[-2:])
    )
    return before == after


def painted_in_place(samples: list[Sample], replies: list[Image.Image | None]) -> list[bool]:
    """Whether the painted thing overlaps enough with where it should stand; False where there is not one thing."""
    return [
        scene is not None
        and len(scene.objects) == 1
        and box_iou(true_box(scene), true_box(sample.scenes[-1])) >= IOU_THRESHOLD
        for sample, scene in zip(samples, read_pictures(replies, scenes_by_colour))
    ]


class FamilyEvaluation:
    """What all families are asked; each seed has an exam of its own, so that more seeds are more questions.

    Args:
        plan: how much.
        seed: of the samples.
        device: where pictures are judged.
    """

    def __init__(self, plan: FamilyPlan, seed: int, device="cpu"):
        self.plan, self.seed, self.judge = plan, seed, toy.pretrained_judge().to(device)

    def samples(self, kind: str, held_out: bool) -> list[Sample]:
        """The same ones on every call."""
        rng = random.Random(f"families exam {self.seed} {kind} {held_out}")
        return [draw_sample(kind, rng, held_out) for _ in range(self.plan.prompts)]

    def score(self, samples: list[Sample], replies: list) -> dict:
        """How many replies to samples of one kind are right in everything, and the mean share of facts that are right.

        Of edits also how many of those that should leave the thing in its place ("stay") do so ("in place"), right or not. Held-out edits
        all should: only a new colour or shape leads to a combination that training never sees. Of boxes also their mean intersection
        over union with the true ones ("overlap").
        """
        kind = samples[0].kind
        right = (
            image_scores(self.judge, samples, replies)
            if kind in IMAGE_KINDS
            else list(map(text_score, samples, replies))
        )
        marks = {"right": right.count(1.0), "facts": round(sum(right) / len(right), 4)}
        if kind == "edit":
            stay = list(map(keeps_position, samples))
            marks |= {
                "stay": sum(stay),
                "in place": sum(
                    placed
                    for placed, asked in zip(painted_in_place(samples, replies), stay)
                    if asked
                ),
            }
        if kind == "locate":
            found = [box_of_words(reply) for reply in replies]
            marks["overlap"] = round(
                sum(
                    box_iou(box, box_of_words(sample.reply))
                    for box, sample in zip(found, samples)
                    if box
                )
                / len(samples),
                4,
            )
        return marks

    def evaluate(self, family: Family) -> dict:
        """{kind: {"seen" and "held out": `mark`}} for every kind that the family can be asked."""
        return self.evaluate_replies(family.kinds, family.replies)

    def chance(self) -> dict:
        """`marks` of one who replies without looking: with what would be right for another sample, or the commonest answer to a question."""
        rng, answers = random.Random("families chance"), {}
        for _ in range(2000):
            sample = draw_sample("question", rng)
            answers.setdefault(sample.given[1], Counter())[sample.reply] += 1

        def blind(samples: list[Sample]) -> list:
            if samples[0].kind == "question":
                return [
                    answers[sample.given[1]].most_common(1)[0][0]
                    if sample.given[1] in answers
                    else ""
                    for sample in samples
                ]
            return [sample.reply for sample in samples[1:] + samples[:1]]

        return self.evaluate_replies(SAMPLE_KINDS, blind)

    def evaluate_replies(
        self, kinds: tuple[str, ...], replies: Callable[[list[Sample]], list]
    ) -> dict:
        """`marks` of whoever gives these replies to samples of these kinds."""
        asked = {
            kind: {name: self.samples(kind, held_out) for name, held_out in COMBINATIONS.items()}
            for kind in kinds
        }
        return {
            kind: {name: self.score(samples, replies(samples)) for name, samples in both.items()}
            for kind, both in asked.items()
        }
