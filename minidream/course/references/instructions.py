"""The exercises of notebook 07: conversations, Wilson's interval, and the two scores of an edit."""

import math

from ...documents import IGNORED
from ...studies.intervals import wilson
from ...studies.query_evaluation import words_of
from ...tokenizers import ToyTokenizer
from ...world.language import VOCABULARY
from ..exercises import Exercise

TOKENIZER = ToyTokenizer(VOCABULARY)

# --------------------------------------------------------------------------------------------------
# 07.1: a conversation


def conversation(turns: list[tuple[str, str]], tokenizer) -> tuple[list[int], list[int]]:
    """The ids and labels of questions with their answers, in words.

    `minidream.train.batches.dialogue` does the same, also with pictures.
    """
    special = tokenizer.special
    ids, labels = [special.bos], [IGNORED]
    for question, answer in turns:
        asked = tokenizer.encode(f"question: {question} answer:")
        reply = tokenizer.encode(answer) + [special.eos]
        ids = ids + asked + reply
        labels = labels + [IGNORED] * len(asked) + reply
    return ids, labels


def turns() -> list[tuple]:
    """One question, and two."""
    one = [("what color is the star?", "red")]
    two = [("how many things are there?", "one"), ("is there a red star?", "no")]
    return [(one, TOKENIZER), (two, TOKENIZER)]


def relabelled(change):
    """A function with other labels: `change` takes the right ids and labels."""
    return lambda *case: (conversation(*case)[0], change(*conversation(*case)))


# --------------------------------------------------------------------------------------------------
# 07.2: an interval of a share


def around(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The usual interval around the share itself."""
    middle, reach = right / n, z * math.sqrt(right * (n - right) / n**3)
    return middle - reach, middle + reach


# --------------------------------------------------------------------------------------------------
# 07.3: when is an edit right?

ATTRIBUTES = ("count", "size", "colour", "shape", "background")


def edit_scores(before: tuple, after: tuple, found: tuple | None) -> tuple[float, float]:
    """Of what should change, and of what should stay, the share that is as it was asked for.

    Args:
        before, after: facts of the scene that is edited, and of the one that is asked for.
        found: facts of what was painted; None if no scene was found in it.
    """
    changed, kept = [], []
    for attribute in ATTRIBUTES:
        right = words_of(found, attribute) == words_of(after, attribute)
        should_change = words_of(before, attribute) != words_of(after, attribute)
        (changed if should_change else kept).append(right)
    return sum(changed) / len(changed), sum(kept) / len(kept)


def edits() -> list[tuple]:
    """A yellow star that should become a blue ring, and what was painted."""
    yellow_star = ("black", None, (("large", "yellow", "star"),))
    blue_ring = ("black", None, (("large", "blue", "ring"),))
    red_ring = ("gray", None, (("large", "red", "ring"),))
    small_ring = ("black", None, (("small", "blue", "ring"),))
    return [(yellow_star, blue_ring, found) for found in (yellow_star, None, red_ring, small_ring)]


def any_change(before: tuple, after: tuple, found: tuple | None) -> tuple[float, float]:
    """Whatever has changed counts, whether it was asked for or not."""
    changed, kept = [], []
    for attribute in ATTRIBUTES:
        has_changed = words_of(found, attribute) != words_of(before, attribute)
        should_change = words_of(before, attribute) != words_of(after, attribute)
        (changed if should_change else kept).append(has_changed == should_change)
    return sum(changed) / len(changed), sum(kept) / len(kept)


def compared_with_before(before: tuple, after: tuple, found: tuple | None) -> tuple[float, float]:
    """Right is what equals the scene before the edit."""
    changed, kept = edit_scores(after, before, found)
    return changed, kept


def all_kept(before: tuple, after: tuple, found: tuple | None) -> tuple[float, float]:
    """The second share is of all attributes."""
    kept = [words_of(before, each) == words_of(found, each) for each in ATTRIBUTES]
    return edit_scores(before, after, found)[0], sum(kept) / len(kept)


def counted(before: tuple, after: tuple, found: tuple | None) -> tuple[float, float]:
    """Numbers of attributes in place of shares."""
    changing = sum(words_of(before, each) != words_of(after, each) for each in ATTRIBUTES)
    changed, kept = edit_scores(before, after, found)
    return changed * changing, kept * (len(ATTRIBUTES) - changing)


EXERCISES = {
    "07.1": Exercise(
        conversation,
        turns,
        {
            "the questions are the user's: only answers, and their </s>, have a label.": (
                relabelled(lambda ids, labels: ids)
            ),
            "the </s> after an answer is learned, too: a model that never learns it never stops.": (
                relabelled(
                    lambda ids, labels: [IGNORED if at == TOKENIZER.eos else at for at in labels]
                )
            ),
            "every answer is learned, not only the last one.": (
                relabelled(lambda ids, labels: [IGNORED] * (len(labels) - 2) + labels[-2:])
            ),
            "a label is at the position of its own token: the loss does the shift.": (
                relabelled(lambda ids, labels: [*labels[1:], IGNORED])
            ),
        },
        "Build both lists together: whatever is appended to the first has a counterpart in the "
        'second. A turn is `tokenizer.encode("question: ... answer:")`, then the answer and '
        "`tokenizer.eos`.",
        tokenizer=TOKENIZER,
    ),
    "07.2": Exercise(
        wilson,
        lambda: [(12, 24), (23, 24), (24, 24), (1, 7), (0, 3)],
        {
            "right of n is not the middle: 24 of 24 would then give an interval of no width at "
            "all.": around,
            "z is 1.96, for 95 %, and it counts squared in the middle.": (
                lambda right, n: wilson(right, n, 1.0)
            ),
            "the reach goes to both sides: it is not the whole width.": (
                lambda right, n: (sum(wilson(right, n)) / 2, wilson(right, n)[1])
            ),
        },
        "Compute `z ** 2` once, and the middle and the reach from it. With 24 of 24, the low end "
        "should come out near 86 %.",
    ),
    "07.3": Exercise(
        edit_scores,
        edits,
        {
            "red instead of blue is a change, but not the one that was asked for: compare with "
            "`after`.": any_change,
            "right is what equals `after`: a picture without a change has done nothing.": (
                compared_with_before
            ),
            "what should change is not part of the second share.": all_kept,
            "these are numbers of attributes; divide by how many there are of each kind.": counted,
            "the share that should change comes first, then the one that should stay.": (
                lambda *facts: edit_scores(*facts)[::-1]
            ),
        },
        "Sort the attributes into two groups first: those in which `before` and `after` differ, "
        "and the others. In both groups, right is what equals `after`.",
    ),
}
