"""What tells two objects apart by the queries that their cells look at; see `probing_shares`.

Both objects may look most at the same query and still differ in how much. So the question is:
is there a query that the cells of one object look at *more* than those of the other, always?
"""

import random
from collections.abc import Callable

from .probing_map_shares import looked_before
from .probing_shares import Values, runs_of

# Which object of a prompt comes first: the one mentioned first, the left or upper one, or either,
# by the toss of a coin (the control).
ORDERS: dict[str, Callable[[dict, int], int]] = {
    "mention": lambda run, index: 0,
    "side": lambda run, index: 0 if run["leading"][index] else 1,
    "nothing": lambda run, index: random.Random(index).randrange(2),
}


def told_apart(
    results: dict, order: str, phrasing: str | None = None, stage: str | None = None
) -> list[Values]:
    """Whether the query that tells an order best in the other half of the prompts tells it here.

    Args:
        results: of the study.
        order: of `ORDERS`.
        phrasing: where the relation is said: "between", "before" or "after"; None is all.
        stage: of the part "stages", one run before a stage; None is the finished runs.

    Returns:
        By run and prompt, 1 or 0; None where it does not count.
    """
    finished = [(run, run["looked"]) for run in runs_of(results, "roles").values()]
    found = []
    for run, looks in [looked_before(results, stage)] if stage else finished:
        signs = [
            signs_of(run, looks, index, ORDERS[order]) if phrasing in (None, where) else None
            for index, where in enumerate(run["phrasing"])
        ]
        best = [best_query(signs[half::2]) for half in (0, 1)]
        values = []
        for index, sign in enumerate(signs):
            query, direction = best[1 - index % 2]
            values.append(None if sign is None else float(sign[query] == direction))
        found.append(values)
    return found


def signs_of(run: dict, looks: list, index: int, first: Callable[[dict, int], int]):
    """For each query, whether the first object's cells look at it more; None if not right."""
    if looks[index] is None:
        return None
    which = first(run, index)
    one, other = looks[index][which], looks[index][1 - which]
    return [mine > others for mine, others in zip(one, other)]


def best_query(signs: list) -> tuple[int, bool | None]:
    """The query whose sign is most often the same, and this sign; None where there are none."""
    rows = [sign for sign in signs if sign is not None]
    if not rows:
        return 0, None
    more = [sum(column) for column in zip(*rows)]
    query = max(range(len(more)), key=lambda query: max(more[query], len(rows) - more[query]))
    return query, more[query] > len(rows) / 2
