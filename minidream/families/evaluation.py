"""How replies are scored: every family is asked the same new samples.

A reply is right if all of its facts are. Since few are right after a short training, the share of
facts that are right is recorded as well.
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
from .samples import PAINTED_KINDS, SAMPLE_KINDS, Sample, draw_sample, true_box

# A box is right if its intersection over union with the true one is at least this.
IOU_THRESHOLD = 0.5
COMBINATIONS = {"seen": False, "held out": True}


def fact_accuracy(found: tuple | None, expected: tuple) -> float:
    """The share of the expected facts that were found, in [0, 1].

    The facts are size, colour and shape of each object; the relation of two; and the background, if
    one is expected.

    Args:
        found: as `Scene.facts`; None if no scene was found. Another number of objects counts as
            none.
        expected: as `Scene.facts`; its background may be None.
    """
    if found is None or len(found[2]) != len(expected[2]):
        return 0.0
    here, wanted = ((*facts[:2], *sum(facts[2], ())) for facts in (found, expected))
    right = [one == other for one, other in zip(here, wanted) if other is not None]
    return sum(right) / len(right)


def text_score(sample: Sample, reply: str) -> float:
    """The score of a text reply, in [0, 1].

    It is the share of right facts of a caption. A box scores 1 if it overlaps enough with the
    true one, any other answer if it equals the expected one.
    """
    if sample.kind == "caption":
        return fact_accuracy(parse_caption(reply), sample.expected)
    if sample.kind == "locate":
        return float(reply_iou(sample, reply) >= IOU_THRESHOLD)
    return float(reply == sample.reply)


def reply_iou(sample: Sample, reply: str) -> float:
    """Intersection over union of the box in a reply and the true one; 0 if the reply has no box."""
    box = box_of_words(reply)
    return box_iou(box, box_of_words(sample.reply)) if box else 0.0


def image_scores(
    judge: Judge, samples: list[Sample], replies: list[Image.Image | None]
) -> list[float]:
    """The share of right facts that the judge reads from each picture, in [0, 1]; 0 without one."""
    device = next(judge.parameters()).device
    readings = read_pictures(replies, lambda pictures: judge.read(pictures.to(device)))
    facts = [None if reading is None else reading.facts for reading in readings]
    return [fact_accuracy(found, sample.expected) for found, sample in zip(facts, samples)]


def read_pictures(replies: list[Image.Image | None], reader: Callable[[Tensor], list]) -> list:
    """What a reader finds in each picture, all read together; None where there is no picture."""
    pictures = [reply for reply in replies if reply is not None]
    found = iter(reader(to_tensor(pictures)) if pictures else [])
    return [None if reply is None else next(found) for reply in replies]


def keeps_position(sample: Sample) -> bool:
    """Whether the last scene's object has the same position and size as in the scene before."""
    before, after = (scene.objects[0] for scene in sample.scenes[-2:])
    return (before.x, before.y, before.radius) == (after.x, after.y, after.radius)


def painted_in_place(samples: list[Sample], replies: list[Image.Image | None]) -> list[bool]:
    """Whether each picture shows one object only, which overlaps enough with its expected box."""
    return [
        scene is not None
        and len(scene.objects) == 1
        and box_iou(true_box(scene), true_box(sample.scenes[-1])) >= IOU_THRESHOLD
        for sample, scene in zip(samples, read_pictures(replies, scenes_by_colour))
    ]


def commonest_answers() -> dict[str, str]:
    """{question: its most frequent answer} among two thousand random questions."""
    rng, answers = random.Random("families chance"), {}
    for _ in range(2000):
        sample = draw_sample("question", rng)
        answers.setdefault(sample.given[1], Counter())[sample.reply] += 1
    return {question: counts.most_common(1)[0][0] for question, counts in answers.items()}


class FamilyEvaluation:
    """The samples that all families are asked.

    Each seed has samples of its own, so that more seeds also mean more questions.

    Args:
        plan: how many samples.
        seed: of the samples.
        device: where the judge reads pictures.
    """

    def __init__(self, plan: FamilyPlan, seed: int, device="cpu"):
        self.plan, self.seed, self.judge = plan, seed, toy.pretrained_judge().to(device)

    def samples(self, kind: str, held_out: bool) -> list[Sample]:
        """The samples of one kind, the same ones on every call."""
        rng = random.Random(f"families exam {self.seed} {kind} {held_out}")
        return [draw_sample(kind, rng, held_out) for _ in range(self.plan.prompts)]

    def score(self, samples: list[Sample], replies: list) -> dict:
        """The scores of replies to samples of one kind.

        Returns:
            "right": how many replies are right in everything.
            "facts": the mean share of right facts, in [0, 1].
            "stay" and "in place", of edits only: how many of them leave the object where it is,
                and how many of the replies to those do so, right or not. Held-out edits all leave
                it there, since only a new colour or shape makes a combination that training never
                sees.
            "overlap", of boxes only: their mean intersection over union with the true ones.
        """
        kind = samples[0].kind
        if kind in PAINTED_KINDS:
            scores = image_scores(self.judge, samples, replies)
        else:
            scores = list(map(text_score, samples, replies))
        result = {"right": scores.count(1.0), "facts": round(sum(scores) / len(scores), 4)}
        if kind == "edit":
            stay = list(map(keeps_position, samples))
            in_place = painted_in_place(samples, replies)
            result["stay"] = sum(stay)
            result["in place"] = sum(here for here, expected in zip(in_place, stay) if expected)
        if kind == "locate":
            result["overlap"] = round(sum(map(reply_iou, samples, replies)) / len(samples), 4)
        return result

    def evaluate(self, family: Family) -> dict:
        """{kind: {"seen" and "held out": `score`}} for every kind that a family can be asked."""
        return self.evaluate_replies(family.kinds, family.replies)

    def chance(self) -> dict:
        """The scores of replies that do not depend on the input, in the form of `evaluate`.

        A question gets its commonest answer, everything else the reply to another sample.
        """
        answers = commonest_answers()

        def blind_replies(samples: list[Sample]) -> list:
            if samples[0].kind == "question":
                return [answers.get(sample.given[1], "") for sample in samples]
            return [sample.reply for sample in samples[1:] + samples[:1]]

        return self.evaluate_replies(SAMPLE_KINDS, blind_replies)

    def evaluate_replies(
        self, kinds: tuple[str, ...], replies: Callable[[list[Sample]], list]
    ) -> dict:
        """As `evaluate`, for a function from samples of one kind to replies."""
        result = {kind: {} for kind in kinds}
        for kind in kinds:
            for name, held_out in COMBINATIONS.items():
                samples = self.samples(kind, held_out)
                result[kind][name] = self.score(samples, replies(samples))
        return result
