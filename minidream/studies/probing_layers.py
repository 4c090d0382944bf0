"""Parts of the probing study about layers: what queries hold after each of them.

Each part takes a `Lab` and returns numbers as JSON.
"""

import torch

from ..probe.interventions import patch
from ..probe.lens import lens_states
from ..probe.linear_probes import linear_probes
from ..probe.residual_stream import query_stream
from ..world.judge import HEADS, answers_of
from ..world.language import parse_caption
from .probing_lab import WORD_KINDS, Lab, mean_of, rounded

# The judge's heads that describe two objects.
OBJECT_HEADS = tuple(f"{slot} {kind}" for slot in ("first", "second") for kind in WORD_KINDS)


def readable(lab: Lab) -> dict:
    """Linear probes: what can be read from each query after each layer, against shuffled labels."""
    phrases = lab.prompts("readable", lab.plan.prompts)
    texts = [phrase.text for phrase in phrases]
    batches = [texts[first : first + 50] for first in range(0, len(texts), 50)]
    states = torch.cat([query_stream(lab.model, batch) for batch in batches], dim=1)
    answers = torch.tensor([answers_of(parse_caption(text)) for text in texts])
    found = {}
    for column, head in enumerate(HEADS):
        if head != "axis" and head not in OBJECT_HEADS:
            continue
        labels = answers[:, column].tolist()
        result = linear_probes(states, labels, held_out=len(phrases) // 3, seed=lab.seed)
        found[head] = {
            "accuracy": rounded(result.accuracy),
            "control": rounded(result.control),
            "chance": round(result.chance, 4),
        }
    return {"prompts": len(phrases), "heads": found}


def patching(lab: Lab) -> dict:
    """After which layer do the queries determine the picture? Another prompt's are patched in.

    The lens, which skips all later layers, is measured on the same prompts.
    """
    count = lab.plan.pairs
    texts = [phrase.text for phrase in lab.prompts("patching", 2 * count)]
    here, there = texts[:count], texts[count:]
    seeds = lab.noise_seeds(0, count)
    stream, seen = query_stream(lab.model, there), lens_states(lab.model, here)

    def share_right(readings: list, wanted: list[str]) -> float:
        """The share of readings that agree with these prompts."""
        facts = map(parse_caption, wanted)
        return mean_of([reading.agrees(fact) for reading, fact in zip(readings, facts)])

    found = {"to the other prompt": [], "still the prompt itself": [], "lens": []}
    for layer in range(len(stream)):
        with patch(lab.model, list(range(lab.model.queries)), stream[layer], layer):
            states = lab.model.encode(here)
        readings = lab.judge.read(lab.paint(states, seeds))
        found["to the other prompt"].append(share_right(readings, there))
        found["still the prompt itself"].append(share_right(readings, here))
        lens_readings = lab.judge.read(lab.paint(seen[layer], seeds))
        found["lens"].append(share_right(lens_readings, here))
    return {"pairs": count, **found}
