"""Writes the page of the two-hop explorer: python two_hops.py FILE"""

import sys
from pathlib import Path

import minidream
from minidream.probe.explorers import two_hop_page

model = minidream.load("toy", device="cpu")
star = model.dream("a large yellow star on a black background")
prompts = [
    "a large green star left of a small blue square on a gray background",
    "a small pink ring above a large yellow circle",
    minidream.Document([star, "the same but red"]),
]
path = Path(sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(two_hop_page(model, prompts), encoding="utf-8")
