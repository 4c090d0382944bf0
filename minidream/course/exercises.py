"""Exercises that check themselves: an answer is compared with a reference, case by case.

What is wrong with an answer is said in a sentence. It comes from the exercise, if the answer makes
one of its typical mistakes; or from `recognition.py`, if it makes a mistake that is possible in any
exercise; or it says where the first number differs, and adds the hint.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..tokenizers import ToyTokenizer
from .arguments import changed, copied
from .differences import differs, shown
from .recognition import Answers, recognized

NOT_ATTEMPTED = "Not attempted yet: write your own lines in place of `raise NotImplementedError`."


@dataclass(frozen=True)
class Exercise:
    """What an answer is compared with, and what is said about it.

    reference: a right answer: a function of the package, or a short one beside the exercise. Its
        source is the solution that `python -m minidream.course.solutions` writes.
    cases: makes the arguments of a few calls. Their results differ, so that no constant passes.
    mistakes: {a sentence that says what is wrong: the function that makes this mistake}.
    hint: how to begin. The notebook has it, too.
    axes: names of the axes of a result that is a tensor, as in einops: "batch tokens dim".
    tokenizer: gives token ids their names, if results are token ids or labels.
    """

    reference: Callable
    cases: Callable[[], list[tuple]]
    mistakes: dict[str, Callable]
    hint: str
    axes: str = ""
    tokenizer: ToyTokenizer | None = None


def feedback(exercise: Exercise, answer: Callable) -> str:
    """Whether an answer is right, or what is wrong with it.

    An untouched stub raises NotImplementedError, which does not count as a mistake.

    Args:
        exercise: with at least one case.
        answer: the reader's function.

    Returns:
        "Not attempted yet: ...", "Right: ..." or "Not yet: ..."; the last is a sentence that says
        what is wrong.

    Raises:
        Exception: whatever the answer raises, with a note that says in which case.
    """
    cases, results = exercise.cases(), []
    for number, case in enumerate(cases, start=1):
        given = copied(case)
        try:
            results.append(answer(*given))
        except NotImplementedError:
            return NOT_ATTEMPTED
        except Exception as error:
            arguments = ", ".join(map(shown, case))
            error.add_note(f"It was raised in case {number} of {len(cases)}, with {arguments}.")
            raise
        if changed(given, case):
            return (
                "Not yet: your function changes what it is given. Make a copy first, of a tensor "
                "with .clone()."
            )
    expected = [exercise.reference(*copied(case)) for case in cases]
    tokenizer = exercise.tokenizer
    faults = [differs(*pair, tokenizer) for pair in zip(results, expected, strict=True)]
    if not any(faults):
        reference = f"{exercise.reference.__module__}.{exercise.reference.__qualname__}"
        return f"Right: in {len(cases)} of {len(cases)} cases it gives what `{reference}` gives."
    for sentence, mistake in exercise.mistakes.items():
        if not any(differs(result, mistake(*copied(case))) for result, case in zip(results, cases)):
            return f"Not yet: {sentence}"
    answers = Answers(answer, exercise.reference, [copied(case) for case in cases])
    sentence = recognized(results, expected, answers, exercise.axes.split(), tokenizer)
    if sentence:
        return f"Not yet: {sentence}"
    number = next(number for number, fault in enumerate(faults) if fault)
    wrong = f"{sum(map(bool, faults))} of {len(cases)} cases differ"
    return f"Not yet: {wrong}. In case {number + 1}, {faults[number]} Hint: {exercise.hint}"
