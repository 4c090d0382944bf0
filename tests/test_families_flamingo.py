"""Flamingo: gates, causality, and pictures beside the text."""

import random

import pytest
import torch
from families_shared import build, noise, tiny_llm

from minidream.families import flamingo, samples


def test_gates_start_closed_and_gated_layers_are_causal():
    llm, embeddings = tiny_llm(), noise(2, 5, 8)
    wanted = llm(embeddings)
    llm.layers[1] = gated = flamingo.GatedLayer(llm.layers[1], dim=8, context_dim=4)
    with pytest.raises(ValueError, match="2 rows need as many pictures, and 0 are set"):
        llm(embeddings)
    gated.picture = noise(2, 3, 4, seed=2)
    assert torch.equal(llm(embeddings), wanted)
    with torch.no_grad():
        gated.gates.fill_(1.0)
    opened = llm(embeddings)
    assert (opened - wanted).abs().amax(dim=(1, 2)).min() > 1e-3
    later = embeddings.clone()
    later[:, 3:] += 1
    torch.testing.assert_close(llm(later)[:, :3], opened[:, :3])
    gated.picture = torch.stack([gated.picture[0], gated.picture[1] + 1])
    torch.testing.assert_close(llm(embeddings)[0], opened[0])  # every row looks at its own picture


def test_sequences_hold_words_alone_and_each_sample_attends_to_its_own_picture():
    system = build("flamingo")
    first, second = (samples.draw_sample("caption", random.Random(seed)) for seed in (0, 1))
    layout, document = system.lay_out(first)
    special = system.model.tokenizer.special
    assert special.im_patch not in layout.ids and not document.images
    for layer in system.model.llm.layers:
        if isinstance(layer, flamingo.GatedLayer):
            layer.gates.data.fill_(1.0)
    system.forward([first, second], torch.Generator())
    both = system.model.llm.layers[0].picture
    system.set_pictures(second.pictures)
    torch.testing.assert_close(system.model.llm.layers[0].picture, both[1:])
    looked, watch = [], system.set_pictures
    system.set_pictures = lambda pictures: looked.append(pictures) or watch(pictures)
    assert len(system.replies([first, second])) == 2 and looked == [first.pictures, second.pictures]
