"""Emu and Emu2: what is regressed onto what, states said one by one, and when painters learn."""

import random

import pytest
import torch
from families_shared import build
from torch.nn import functional as F

from minidream.documents import IGNORED
from minidream.families import alignment, emu, image_decoder, samples


def drawn(kind, count=2):
    return [samples.draw_sample(kind, random.Random(seed)) for seed in range(count)]


@pytest.mark.parametrize("name, states", [("emu", 32), ("emu2", 64)])
def test_a_picture_is_as_many_states_to_be_read_as_to_be_said(name, states):
    system, (edit, *_) = build(name), drawn("edit")
    model = system.model
    layout, document = system.lay_out(edit)
    special = model.tokenizer.special
    block = [special.im_start, *[special.im_patch] * states, special.im_end]
    words = model.tokenizer.encode(edit.given[1])
    assert layout.ids == [special.bos, *block, *words, *block, special.eos]
    assert not layout.queries and document.images == [edit.given[0], edit.reply]
    assert layout.labels == [IGNORED] * len(layout.ids)
    assert model.vision.patches == model.vision.states == states


def test_each_state_is_regressed_from_those_before_it():
    system, batch = build("emu2"), [*drawn("edit"), *drawn("paint")]
    model, targets = system.model, system.painter.true_states(batch)
    losses = system(batch, None)
    errors = []
    for sample, target in zip(batch, targets):  # alone, without padding
        layout, document = system.lay_out(sample)
        _, hidden = model.read([layout], [document])
        first = layout.patches[-1][1]
        said = model.decoder.projector(hidden[0, first - 1 : first + 63])
        errors.append(F.mse_loss(said, target))
    error = torch.stack(errors).mean()
    torch.testing.assert_close(losses["regression"], error, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        losses["total"], alignment.REGRESSION_WEIGHT * error, rtol=1e-4, atol=1e-4
    )
    assert set(losses) == {"total", "regression"}
    slopes = torch.autograd.grad(
        losses["total"],
        [model.vision.projector.weight, model.decoder.projector.projector.weight],
    )
    assert all(slope.abs().max() > 0 for slope in slopes)


def test_states_are_said_one_by_one_each_after_reading_those_before():
    system, batch = build("emu"), [*drawn("edit"), *drawn("paint")]
    model, said = system.model, system.said_states(batch)
    assert said.shape == (4, 32, 96) and not said.requires_grad
    for sample, states in zip(batch, said):
        # Said states in the place of true ones: each of them must be what the one before says.
        layout, document = system.lay_out(sample)
        given = list(sample.pictures)
        seen = torch.cat(
            [*map(system.painter.encoder.states_of, [[one] for one in given]), states[None]]
        )
        _, hidden = model.read([layout], [document], seen)
        first = layout.patches[-1][1]
        again = model.decoder.projector(hidden[0, first - 1 : first + 31])
        torch.testing.assert_close(again, states, rtol=1e-3, atol=1e-3)


def test_emus_painter_learns_last_from_what_is_said_and_emu2s_first_from_what_is_true():
    one, other = build("emu"), build("emu2")
    assert one.phases == [one, one.painter] and other.phases == [other.painter, other]
    assert type(other.painter) is image_decoder.ImageDecoder
    assert type(one.painter) is emu.SaidStatesDecoder
    batch = drawn("paint", 4)
    said, true = one.said_states(batch[:2]), one.painter.true_states(batch)
    conditions = one.painter.conditions_of(batch)
    torch.testing.assert_close(conditions[:2], said)
    assert torch.equal(conditions[2:], true[2:])
    torch.testing.assert_close(one.painter.conditions_of(batch[:1]), true[:1], rtol=1e-4, atol=1e-4)
    for system in (one, other):
        learned = [
            {id(value) for value in phase.parameters() if value.requires_grad}
            for phase in system.phases
        ]
        assert all(learned) and not learned[0] & learned[1]


def test_what_is_said_is_painted():
    system, batch = build("emu2"), drawn("pair")
    for reply, wanted in zip(
        system.replies(batch), system.painter.paint(system.said_states(batch)), strict=True
    ):
        assert reply.tobytes() == wanted.tobytes()
    assert all(isinstance(reply, str) for reply in system.replies(drawn("caption")))
