"""One call of every function that draws a figure, small enough to be drawn in a test."""

import numpy as np
import torch
from figures import ROW, STORY, image, read, trace

from minidream import Document
from minidream.plots import (
    TokenStrip,
    attention,
    attention_layers,
    bars,
    curves,
    diagrams,
    family_tree,
    picture_parts,
    pictures,
    sequences,
    spreads,
    table_groups,
    tables,
    two_hops,
)
from minidream.probe import Attribution
from minidream.world import Phrase


def numbers(*shape):
    """Numbers in [0, 1), the same in every call."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


RED, BLUE = image("red"), image("blue")
SEEN = trace(STORY)
STRIP = TokenStrip(
    ["<s>", "a", "<dream_start>", 0, 1, *read(0, 2), "[PAD]"],
    ["a", "<dream_start>", *[None] * 10],
    [0],
)
HOPS, HOP_INPUTS = numbers(5, 2, 3) / 5, ["<s>", "red", (0, 0, 0), "<dream_start>", 0]
INTERVAL = ([0.2, 0.3, 0.7], 0.4, 0.1, 0.9)
GAINS = {"captions": (*INTERVAL, 0.25)}
ATTRIBUTION = Attribution(torch.arange(-2.0, 3.0), HOP_INPUTS, [RED], whole=4.0, nothing=0.0)
LOG = [{"step": step, "total": 2.0 / step, "rate": 1e-3} for step in range(1, 60)]
SEEDS = [[(20, 4.0), (40, 2.0)], [(20, 2.0), (40, 1.0)]]
PHRASE = Phrase(("a", "red", "star"), (None, ("colour", 0), ("shape", 0)))
UNET = [("in", (5, 8, 8)), ("a", (6, 8, 8)), ("b", (6, 4, 4)), ("c", (7, 4, 4))]
UNET += [("d", (7, 4, 4)), ("e", (6, 8, 8)), ("out", (5, 8, 8))]
ORIGINS = ["given"] * 3 + ["by rule"] * (len(ROW) - 3)
SHARES = {"background": {"own": (0.9, 0.7, 0.95), "none": (0.4, 0.2, 0.6)}}

# {function: its arguments}
EXAMPLES = {
    attention.plot_trace: (SEEN,),
    attention_layers.plot_word_layers: (SEEN,),
    attention_layers.plot_patch_layers: (SEEN,),
    attention_layers.plot_heads: ({"words": numbers(2, 3)}, "Heads", "share"),
    bars.plot_next_words: ({"a": {"red": 0.75, "blue": 0.25}}, "Next"),
    bars.plot_token_bars: ({"one": [1.5, 0.5]}, ["a", "star"], "Loss", "nats"),
    bars.plot_attributions: ({"one": ATTRIBUTION}, "Words", "loss"),
    bars.plot_sizes: ({"toy": {"llm": 512, "vae": 40_000}}, "Sizes"),
    bars.plot_stacks: ({"float": {"llm": 27.0, "vae": 5.0}}, "Stacks", "GB"),
    bars.plot_writing: ({"one": "a star", "two": "a ring"}, "Written"),
    curves.plot_losses: (LOG, "vae", {"chance": 1.0}),
    curves.plot_seed_losses: ({"loss": {"a": SEEDS, "b": SEEDS[:1]}}, "Falls"),
    curves.plot_curves: ({"y": {"a": [-1, 2, 3]}}, [5, 6, 7], "x", "Rises"),
    curves.plot_schedule: ([1, 0.8], [0, 0.6], [90.0, 1.7], "Louder", [1]),
    diagrams.plot_layout: (ROW, [RED, BLUE]),
    diagrams.plot_unet: (UNET, [(1, 5), (2, 4)], [1, 3], "U"),
    diagrams.plot_dream: ([*STORY, 0, 1], RED, numbers(4, 3, 5), [RED, BLUE]),
    family_tree.plot_flows: ({"referring": "Boxes"},),
    family_tree.plot_tree: (),
    picture_parts.plot_patches: (RED, 2, 3, "Cut"),
    picture_parts.plot_patch_words: ([RED], [[None, ("red", "star")]], 2, "Read"),
    picture_parts.plot_latents: ([RED], numbers(1, 2, 3, 5), [BLUE], numbers(1, 12, 12), "Lost"),
    picture_parts.plot_scene: (RED, numbers(1, 12, 12), PHRASE, "Scene"),
    picture_parts.plot_distances: ({"near": numbers(5, 7) - 0.5}, "Distances"),
    pictures.plot_pictures: ([RED, BLUE], ["a", "b"], 6, "Two"),
    pictures.plot_choice: (RED, "a star", "seed 3"),
    pictures.plot_film: ({"row": [RED, BLUE]}, ["1", "2"], "Film", "step"),
    pictures.plot_boxes: ([RED], [{"true": (0.2, 0.5, 0.7, 1.0)}], ["a"], "Box"),
    pictures.plot_document: (Document(["a star", RED, "a ring", BLUE]),),
    pictures.plot_ablation: (RED, BLUE, ["3"], numbers(12, 12)),
    pictures.plot_denoising: (RED, BLUE, numbers(3, 5), 1, 2, 900),
    pictures.plot_denoising_steps: ([RED] * 2, [BLUE] * 2, numbers(2, 3, 5), [9, 4], 1),
    sequences.plot_token_strip: (STRIP, [RED], "Strip"),
    sequences.plot_origins: (ROW, ORIGINS, [RED, BLUE], "Origins"),
    sequences.plot_strips: ({"story": STRIP}, "Strips"),
    sequences.plot_turns: (numbers(4, 2), "Turns"),
    spreads.plot_spreads: ({"one": {"size": {"own": INTERVAL}}}, "T", "right"),
    spreads.plot_gains: ({"facts": GAINS}, "Gains", "gain"),
    spreads.plot_costs: ({"a": (300, INTERVAL)}, "Costs", "learns", "right"),
    spreads.plot_by_count: ({"right": {"one": {4: INTERVAL}}}, "More", "queries"),
    spreads.plot_answers: ({"toy": {"sink": ((0.4, 0.3, 0.6), [0.1, 0.2], True)}}, "Ten"),
    spreads.plot_shares: (SHARES, "Shares", "of 20", {"background": 0.3}),
    table_groups.plot_table_groups: ({"all": ([[0.5]], ["a"], ["b"], [["50%"]])}, "T", "share"),
    tables.plot_table: (numbers(2, 2), ["a", "b"], ["c", "d"], "Table", "share"),
    tables.plot_changes: ([[[2.0, 0.5]]], ["a"], ["b", "c"], "Changes", "times"),
    tables.plot_matrices: ({"head": numbers(2, 2)}, ["a", "b"], "Looks", "share"),
    tables.plot_visibility: (np.tril(np.ones((len(ROW), len(ROW)), dtype=bool)), ROW, "Sees"),
    tables.plot_scores: ([RED], ["a", "b"], {"own": [[0.2, 0.3]]}, "Fits", "cos"),
    two_hops.plot_two_hop: (RED, HOPS, HOP_INPUTS, ["red"]),
    two_hops.plot_cell_attention: (RED, numbers(2, 3, 5), ["a", "b"], "Cells"),
    two_hops.plot_hop: (RED, HOPS, HOP_INPUTS, "red", (1, 2)),
}
