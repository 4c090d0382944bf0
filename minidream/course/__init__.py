"""Support for the notebooks: exercises that check themselves, their solutions, and the demo."""

from collections.abc import Callable


def check(number: str, answer: Callable) -> None:
    """Prints whether the answer to an exercise is right, or a sentence that says what is wrong.

    Args:
        number: of the notebook, and of the exercise in it: "04.2".
        answer: the reader's function.

    Raises:
        ValueError: if there is no such exercise (names those that exist).
        TypeError: if the answer is no function.
        Exception: whatever the answer raises, with a note that says in which case.
    """
    # Imported here, so that the demo does not wait for what only exercises need.
    from .exercises import feedback
    from .references import find

    exercise = find(number)
    if not callable(answer):
        raise TypeError(
            f"check takes a function, such as check({number!r}, my_function), not {answer!r}: are "
            "there parentheses after its name?"
        )
    print(feedback(exercise, answer))
