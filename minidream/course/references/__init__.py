"""The exercises of the notebooks, a file for each notebook.

Each file has `EXERCISES`: {number: Exercise}, where "04.2" is the second exercise of notebook 04. A
reference is a function of the package if its source reads as an answer, else a short function
beside the exercise; tests compare these with the package, or with another implementation.
"""

from importlib import import_module

from ..exercises import Exercise

# The files by the number of their notebook. They are imported when one of their exercises is
# asked for, since some need diffusers, scipy or transformers.
FILES = {
    "00": "quickstart",
    "01": "toy_world",
    "02": "language_model",
    "03": "seeing",
    "04": "diffusion",
    "05": "dream_queries",
    "06": "interleaved",
    "07": "instructions",
    "07b": "one_file",
    "08": "synergy",
    "09": "where_queries_look",
    "10": "what_queries_do",
    "11": "full_weights",
    "12": "families",
    "13": "growing",
}


def exercises_of(notebook: str) -> dict[str, Exercise]:
    """The exercises of a notebook, by number; {} if it has none.

    Args:
        notebook: its number, such as "04".
    """
    if notebook not in FILES:
        return {}
    return import_module(f".{FILES[notebook]}", __name__).EXERCISES


def find(number: str) -> Exercise:
    """The exercise with a number, such as "04.2".

    Raises:
        ValueError: if there is none (names those that exist).
    """
    notebook = str(number).partition(".")[0]
    exercises = exercises_of(notebook)
    if number in exercises:
        return exercises[number]
    if exercises:
        known = f"notebook {notebook} has {', '.join(exercises)}"
    else:
        known = f'the notebooks with exercises are {", ".join(FILES)}, and "04.2" is an exercise'
    raise ValueError(f"there is no exercise {number!r}: {known}")
