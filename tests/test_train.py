"""The training loop: killed runs resume exactly, failed saves keep the old file; what is frozen."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
import torch
from killed_run import SmallStage
from safetensors.torch import load_file

import minidream
from minidream import weights
from minidream.tokenizers import ToyTokenizer
from minidream.train import batches, stages, words
from minidream.trainer import lessons
from minidream.trainer.loop import Recipe, fit, made_ahead, step_seed
from minidream.weights import parts, toy
from minidream.weights.files import write_atomically
from minidream.world.language import VOCABULARY, parse_caption
from minidream.world.recolouring import random_colours, recoloured
from minidream.world.render import render
from minidream.world.scenes import COLOURS, HELD_OUT_COMBINATIONS, Scene, SceneObject, sample_scene

SCRIPT = Path(__file__).parent / "killed_run.py"


def lines_of(folder: Path) -> list[dict]:
    """The log without its timings."""
    lines = [
        json.loads(line)
        for line in (folder / "small.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [
        {name: value for name, value in line.items() if name != "samples_per_second"}
        for line in lines
    ]


def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, SCRIPT, whole], check=True)
    for _ in range(2):  # killed twice, each time as soon as it has got a checkpoint further
        checkpoint = killed / "small.checkpoint.pt"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen([sys.executable, SCRIPT, killed])
        deadline = time.monotonic() + 60
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            assert process.poll() is None and time.monotonic() < deadline, (
                "the run ended before it could be killed"
            )
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        step = torch.load(checkpoint, weights_only=True)["step"]
        assert 0 < step < 200 and not (killed / "final.pt").exists()
    subprocess.run([sys.executable, SCRIPT, killed], check=True)
    one, other = (torch.load(folder / "final.pt", weights_only=True) for folder in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert lines_of(whole) == lines_of(killed)
    assert [line["step"] for line in lines_of(whole)] == list(range(20, 201, 20))


def test_training_learns_and_keeps_what_is_frozen(tmp_path):
    stage = SmallStage()
    frozen = {name: value.clone() for name, value in stage.frozen.state_dict().items()}
    log = fit(stage, tmp_path, progress=False)
    assert log[-1]["total"] < 0.8 * log[0]["total"]  # the rest is the noise that it cannot know
    assert all(
        torch.equal(value, stage.frozen.state_dict()[name]) for name, value in frozen.items()
    )
    assert not list(tmp_path.glob("*.tmp"))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    fit(SmallStage(), tmp_path, steps=20, progress=False)
    with pytest.raises(ValueError, match="belongs to another run.*'seed': 0"):
        fit(SmallStage(), tmp_path, seed=1, steps=20, progress=False)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "weights"
    path.write_text("good", encoding="utf-8")

    def full_disk(temporary: Path) -> None:
        temporary.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(full_disk, path)
    assert path.read_text(encoding="utf-8") == "good" and os.listdir(tmp_path) == ["weights"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    stage = SmallStage()
    with torch.no_grad():
        stage.line.weight[0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match="stage small.*at step 0"):
        fit(stage, tmp_path, progress=False)


def test_the_rate_warms_up_and_falls():
    recipe = Recipe(steps=1000, batch=1, learning_rate=1.0, warmup=100)
    assert recipe.rate(49, 1000) == 0.5 and recipe.rate(100, 1000) == 1.0
    assert recipe.rate(550, 1000) == pytest.approx(0.525)
    assert recipe.rate(1000, 1000) == pytest.approx(0.05)


def test_every_step_of_every_process_has_a_seed_of_its_own():
    runs = product(range(3), range(50), range(4))  # seed, step, process
    assert len({step_seed(*run) for run in runs}) == 600


@pytest.mark.parametrize("name", ["llm", "lookup", "stage1", "stage2", "stage3"])
def test_each_stage_trains_what_the_paper_trains_and_nothing_else(name):
    model = toy.new_model(ToyTokenizer(VOCABULARY))
    stage = stages.DocumentStage(name, model)
    learning = {
        part
        for part, module in stage.parts().items()
        if any(parameter.requires_grad for parameter in module.parameters())
    }
    assert learning == set(parts.LEAVES[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.5)
    for task, _ in dict(sum(stage.later_tasks.values(), stage.tasks)).items():
        losses = model.loss_of_layouts(
            *task(random.Random(0), 2, model), torch.Generator().manual_seed(1)
        )
        losses.total.backward()
    optimizer.step()
    prefixes = {
        "llm": "llm.",
        "visual_projector": "vision.projector.",
        "condition_projector": "decoder.projector.",
        "dream_queries": "dream_queries",
    }
    changed = {
        key for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed and all(
        key.startswith(tuple(prefixes[part] for part in learning)) for key in changed
    )
    for part in learning:
        assert any(key.startswith(prefixes[part]) for key in changed), part


@pytest.mark.parametrize("name", ["toy-1", "toy-2"])
def test_the_other_runs_share_what_is_frozen_and_paint(name):
    own, other = (minidream.load(each, device="cpu") for each in ("toy", name))
    for part, module in parts.parts_of(own).items():
        state, others = module.state_dict(), parts.parts_of(other)[part].state_dict()
        same = all(torch.equal(value, others[key]) for key, value in state.items())
        assert same == (part in parts.FROZEN), part
    image = other.dream("a large red star", seed=0, output_type="pt")
    (reading,) = toy.pretrained_judge().read(image[None])
    assert reading.agrees(parse_caption("a large red star"))


@pytest.mark.parametrize("name", ["stage1", "stage2", "stage3"])
def test_the_toy_can_be_loaded_as_it_was_before_a_stage(name):
    """Frozen parts are the finished ones; others come from an earlier stage or are untrained."""
    before, finished = (
        parts.parts_of(model)
        for model in (parts.toy_before(name), minidream.load("toy", device="cpu"))
    )
    for part, module in before.items():
        same = all(
            torch.equal(one, other)
            for one, other in zip(module.parameters(), finished[part].parameters(), strict=True)
        )
        assert same == (part in parts.FROZEN), part
        assert not any(
            parameter.requires_grad or parameter.dtype != torch.float32
            for parameter in module.parameters()
        )
        if part in parts.NEEDS[name] and part not in parts.FROZEN:
            left = load_file(parts.part_file(weights.PRETRAINED / "toy" / "stages", part, name))
            assert all(
                torch.equal(value, left[key].float()) for key, value in module.state_dict().items()
            )


def test_batches_are_a_function_of_seed_and_step():
    stage = stages.DocumentStage("stage3", toy.new_model(ToyTokenizer(VOCABULARY)))
    for step in range(len(stage.tasks)):
        one, other = stage.batch(3, step, 0), stage.batch(3, step, 0)
        assert [layout.ids for layout in one[0]] == [layout.ids for layout in other[0]]
        assert [image.tobytes() for document in one[1] for image in document.images] == [
            image.tobytes() for document in other[1] for image in document.images
        ]
        assert [layout.ids for layout in one[0]] != [
            layout.ids for layout in stage.batch(4, step, 0)[0]
        ]


def test_a_missing_part_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"text\.clip_text\.safetensors is missing: run `python -m minidream.train text`",
    ):
        stages.run("unet", tmp_path, progress=False)


def test_dialogues_learn_the_answers_alone():
    model = toy.new_model(ToyTokenizer(VOCABULARY))
    layout, _ = lessons.dialogue(
        model,
        ["a small red circle.", "what color is the circle?"],
        "red",
        [("what is it?", "a ring")],
    )
    assert [model.tokenizer.label(label) for label in layout.labels if label >= 0] == [
        "red",
        "</s>",
        "a",
        "ring",
        "</s>",
    ]
    assert " ".join(map(model.tokenizer.label, layout.ids)) == (
        "<s> question : a small red circle . what color is the circle ? answer : red </s> "
        "question : what is it ? answer : a ring </s>"
    )


def test_recoloured_pictures_never_show_a_held_out_look():
    rng = random.Random(2)
    for _ in range(300):
        scene = sample_scene(rng, count=2)
        ground, *things = random_colours(scene, rng)
        for thing, colour in zip(scene.objects, things):
            assert (
                thing.shape,
                min(COLOURS, key=lambda name: math.dist(COLOURS[name], colour)),
            ) not in HELD_OUT_COMBINATIONS
            assert math.dist(colour, ground) > 0.35
    scene = Scene((SceneObject("square", "red", "small", x=0.3, y=0.5),))
    _, masks = render([scene], toy.IMAGE_SIZE)
    changed = recoloured(masks, [scene], random.Random(0))
    ground, thing, _ = random_colours(scene, random.Random(0))
    assert torch.allclose(changed[0, :, 0, -1], torch.tensor(ground)) and torch.allclose(
        changed[0, :, 32, 19], torch.tensor(thing)
    )


def test_the_next_batch_is_made_while_one_is_used_and_no_other():
    made = []

    def make(step):
        made.append(step)
        if step == 7:
            raise ValueError("step 7 cannot be made")
        return step * 10

    steps = made_ahead(make, range(3, 6))
    assert next(steps) == 30
    assert list(steps) == [40, 50] and made == [3, 4, 5], "each once, in order, none too many"
    assert list(made_ahead(make, range(4, 4))) == []
    failing = made_ahead(make, range(6, 8))
    assert next(failing) == 60
    with pytest.raises(ValueError, match="step 7"):
        next(failing)


def test_what_frozen_networks_make_of_a_batch_changes_no_loss():
    model = toy.new_model(ToyTokenizer(VOCABULARY))
    for task in (batches.stories, batches.edits, batches.captions, words.answered):
        layouts, documents = task(random.Random(0), 3, model)
        losses = [
            model.loss_of_layouts(layouts, documents, torch.Generator().manual_seed(1), *known)
            for known in ([], [model.features(layouts, documents)])
        ]
        assert torch.equal(losses[0].total, losses[1].total), task.__name__
        gradients = [torch.autograd.grad(each.total, model.llm.norm.weight) for each in losses]
        assert torch.equal(*(gradient for (gradient,) in gradients))
    nothing = model.features(*words.answered(random.Random(0), 2, model))
    assert nothing.patches is None and nothing.latents is None


def test_a_stage_is_compiled_on_request(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **options: compiled.append((module, options))
    )
    stage = stages.build("llm", tmp_path, seed=0, compiled=True)
    assert compiled == [(stage.model.llm, {"dynamic": True})]
    stages.build("llm", tmp_path, seed=0)
    assert len(compiled) == 1
