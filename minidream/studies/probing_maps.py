"""Parts of the probing study about maps: do they point at the right object, do the claims hold?

Each part takes a `Lab` and returns numbers as JSON.
"""

import torch
from torch import Tensor

from ..probe.effects import on_cells
from ..probe.llm_attention import dream_attention
from ..probe.map_scores import mass_inside, overlap, points_at, separation, stability
from ..probe.two_hop import join
from ..probe.unet_attention import watch_image
from ..weights import toy
from ..weights.toy import clip_text_states
from .probing_lab import (
    WORD_KINDS,
    Lab,
    Painted,
    mean_of,
    rounded,
    with_new_queries,
    word_positions,
)

MAPS = ("two hops", "rollout", "shuffled caption", "untrained queries", "uniform")


def pointing(lab: Lab) -> dict:
    """Do two-hop maps of the words for an object point at that object?

    Returns:
        Hits and mass of the maps and of their controls, for each kind of word; and the hits of
        each layer alone.
    """
    done = lab.painted("pointing", lab.plan.scenes)
    height, width = lab.model.decoder.latent_shape[1:]
    traces = [dream_attention(lab.model, phrase.text) for phrase in done.phrases]
    masks = [on_cells(mask, height, width) for mask in done.masks]
    whole = maps_of_inputs(lab, done, traces)
    hits = {name: {kind: [] for kind in WORD_KINDS} for name in MAPS}
    mass = {name: {kind: [] for kind in WORD_KINDS} for name in MAPS}
    layers = {kind: [[] for _ in traces[0].weights] for kind in WORD_KINDS}
    for index, (phrase, trace) in enumerate(zip(done.phrases, traces)):
        positions = word_positions(trace, phrase)
        another = (index + 1) % len(done.phrases)  # another scene's caption and picture
        by_layer = [
            join(done.cells[index], trace.mean(layer)) for layer in range(len(trace.weights))
        ]
        for position, role in zip(positions, phrase.roles):
            if role is None or role[0] not in WORD_KINDS:
                continue
            kind, which = role[0], done.object_index(index, role)
            maps = {name: found[index][position] for name, found in whole.items()}
            same_word = position_of(done, another, kind, which)
            maps["shuffled caption"] = whole["two hops"][another][same_word]
            for name, map_ in maps.items():
                hits[name][kind].append(points_at(map_, masks[index]) == which)
                mass[name][kind].append(mass_inside(map_, masks[index][which]))
            # A uniform map points at each cell equally often.
            covered = masks[index].argmax(dim=0)[masks[index].amax(dim=0) > 0] == which
            hits["uniform"][kind].append(covered.sum().item() / (height * width))
            mass["uniform"][kind].append(masks[index][which].mean().item())
            for layer, map_ in enumerate(by_layer):
                layers[kind][layer].append(points_at(map_[position], masks[index]) == which)
    return {
        "scenes": len(done.phrases),
        "words": {kind: len(hits["two hops"][kind]) for kind in WORD_KINDS},
        "hits": {name: means_by_kind(found) for name, found in hits.items()},
        "mass": {name: means_by_kind(found) for name, found in mass.items()},
        "layers": {kind: [mean_of(found) for found in each] for kind, each in layers.items()},
    }


def maps_of_inputs(lab: Lab, done: Painted, traces: list) -> dict[str, list[Tensor]]:
    """Maps from inputs to latent cells of every picture: two hops, rollout, untrained queries.

    Returns:
        {name: a map of shape (inputs, height, width) for each picture}.
    """
    control = Lab(with_new_queries(lab.model, lab.seed), lab.plan, lab.seed)
    texts = [phrase.text for phrase in done.phrases]
    rollouts = [dream_attention(lab.model, text, rollout=True).mean() for text in texts]
    untrained_cells = []
    for first in range(0, len(texts), 25):
        some = slice(first, first + 25)
        with watch_image(control.model) as maps:
            control.paint(control.model.encode(texts[some]), done.seeds[some])
        untrained_cells += [maps.mean(index) for index in range(len(texts[some]))]
    untrained = [dream_attention(control.model, text).mean() for text in texts]
    return {
        "two hops": [join(cells, trace.mean()) for cells, trace in zip(done.cells, traces)],
        "rollout": [join(cells, rollout) for cells, rollout in zip(done.cells, rollouts)],
        "untrained queries": [join(*pair) for pair in zip(untrained_cells, untrained)],
    }


def position_of(done: Painted, index: int, kind: str, which: int) -> int:
    """The position of the first word of a kind that describes an object of a picture."""
    return next(
        word + 1  # after <s>
        for word, role in enumerate(done.phrases[index].roles)
        if role and role[0] == kind and done.object_index(index, role) == which
    )


def means_by_kind(found: dict[str, list]) -> dict[str, float]:
    """The mean for each kind of word."""
    return {kind: mean_of(values) for kind, values in found.items()}


def claims(lab: Lab) -> dict:
    """Section 5.2: are query maps stable across prompts, disentangled, and semantic?

    The same is measured of the maps of CLIP's text states, as in Stable Diffusion.
    """
    done, decoder = lab.painted("claims", lab.plan.pairs), lab.model.decoder
    text_maps = maps_of_text_states(lab, done)
    inside = [on_cells(mask, *decoder.latent_shape[1:]).amax(dim=0) > 0.5 for mask in done.masks]
    # Positions that are words in every caption, <s> included.
    shortest = min(len(phrase.words) for phrase in done.phrases) + 1
    conditions = {
        "dream queries": done.cells,
        "text states": text_maps,
        "text states, words only": text_maps[:, :shortest],
    }
    found = {}
    for name, maps in conditions.items():
        found[name] = {
            "slots": maps.shape[1],
            "stability": rounded(stability(maps)),
            "overlap": rounded(overlap(maps)),
            "separation": separations(maps, inside),
            "separation of another picture": separations(maps, inside[1:] + inside[:1]),
        }
    return {"prompts": len(done.phrases), "conditions": found}


def separations(maps: Tensor, inside: list[Tensor]) -> list[float]:
    """How well the maps of each picture separate objects from background, averaged over slots."""
    pairs = zip(maps, inside)
    return [round(separation(map_, where).mean().item(), 4) for map_, where in pairs]


def maps_of_text_states(lab: Lab, done: Painted) -> Tensor:
    """Where latent cells attend among CLIP's text states, (prompts, states, height, width)."""
    tower = toy.pretrained_text_tower().to(lab.model.device)
    texts, found = [phrase.text for phrase in done.phrases], []
    for first in range(0, len(texts), 25):
        some = slice(first, first + 25)
        states = clip_text_states(tower, lab.model.tokenizer, [*texts[some], ""])
        with watch_image(lab.model) as maps, torch.no_grad():
            lab.model.decoder.sample_seeded(states[:-1], states[-1:], done.seeds[some])
        found += [maps.mean(index) for index in range(len(states) - 1)]
    return torch.stack(found)
