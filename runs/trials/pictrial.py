"""pictrial.py FOLDER STAGE LR BATCH PLAN OUT: a trial of learning from pictures, from the parts before STAGE.

PLAN: phases, "task+task:steps,task:steps"; a task's share of the batch may follow it: "questions*0.4".
"""
import sys, random, time, torch
torch.set_num_threads(1)
from pathlib import Path
from minidream.documents import collate, Document, Layout
from minidream.train import batches, stages, words
from minidream.trainer.lessons import unzipped, pictures, OPENINGS, dialogue
from minidream.weights.parts import assemble, LEAVES, parts_of, NEEDS
from minidream.weights.files import as_path
from minidream.world import stories
from minidream.world.language import description
from minidream.world.scenes import sample_scene, is_held_out
from minidream.world.texts import misread
from minidream.world.questions import ask, QUESTION_KINDS, DESCRIBE
from safetensors.torch import save_file, load_file
folder, name, lr, size, plan, out = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6]
model = assemble(folder, name, NEEDS[name])
if len(sys.argv) > 7:
    print(model.load_state_dict(torch.load(sys.argv[7], weights_only=True), strict=False).unexpected_keys)
stage = stages.DocumentStage(name, model)
tasks = vars(words) | vars(batches)
def only(*kinds, count=2):
    def task(rng, n, model):
        scenes = [sample_scene(rng, count=rng.choice((1, 2)) if count is None else count) for _ in range(n)]
        pairs = []
        for scene, picture in zip(scenes, pictures(scenes, model.decoder.image_size)):
            (q, a), *more = [ask(scene, rng, rng.choice(kinds)) for _ in range(5)]
            pairs.append(dialogue(model, [picture, q], a, more))
        return unzipped(pairs)
    task.__name__ = "only " + " ".join(kinds)
    return task
from minidream.world.scenes import SHAPES, COLOURS
def exists(scene, rng):
    kind = rng.choice(("shape", "colour", "both"))
    if kind == "both": return ask(scene, rng, "existence")
    words, noun = (SHAPES, "{}") if kind == "shape" else (list(COLOURS), "{} thing")
    there = [getattr(o, kind) for o in scene.objects]
    word = rng.choice(there) if rng.random() < .5 else rng.choice([w for w in words if w not in there])
    return f"is there a {noun.format(word)}?", "yes" if word in there else "no"
def exist3(rng, n, model):
    scenes = [sample_scene(rng, count=2) for _ in range(n)]; pairs = []
    for scene, picture in zip(scenes, pictures(scenes, model.decoder.image_size)):
        (q, a), *more = [exists(scene, rng) for _ in range(5)]
        pairs.append(dialogue(model, [picture, q], a, more))
    return unzipped(pairs)
tasks |= dict(exist3=exist3)
tasks |= dict(existence=only("existence"), relation=only("relation"), yesno=only("existence", "relation"), existence_any=only("existence", count=None))
schedule = []
for phase in plan.split(","):
    names, steps = phase.split(":")
    turns = [(tasks[n.split("*")[0]], float((n.split("*") + ["1"])[1])) for n in names.split("+")]
    schedule += [turns] * int(steps)
steps = len(schedule)
N = 100
@torch.no_grad()
def right(pairs):
    layouts, documents = unzipped(pairs)
    b = collate(layouts, model.tokenizer.special.pad)
    h = model.llm(model.embed(b, [i for d in documents for i in d.images]))
    pred = model.llm.logits(h[:, :-1]).argmax(-1); lab = b.labels[:, 1:]
    return int(((pred == lab) | (lab < 0)).all(1).sum())
SETS = {}
def sets(held):
    if held in SETS: return SETS[held]
    rows = {}
    for kind in stories.NAMING:
        rng = random.Random(f"c{kind}{held}"); drawn = []
        while len(drawn) < N:
            before = sample_scene(rng, count=2, held_out=held and rng.random() < .3)
            e = stories.edit_of(before, kind, rng, .25)
            if not e or is_held_out(e[0]) != held: continue
            a, m = description(e[0]).split(), description(misread(before, e[0])).split()
            p = [x == y for x, y in zip(a, m)].index(False); drawn.append((before, e[2], " ".join(a[:p]), a[p]))
        pairs = []
        for pic, (b, ins, beg, word) in zip(pictures([d[0] for d in drawn], model.decoder.image_size), drawn):
            lay = Layout(); enc = model.tokenizer.encode
            lay.add([model.tokenizer.special.bos], False); lay.add_image(0, model.tokenizer.special, model.vision.patches)
            lay.add(enc(f"{ins}{OPENINGS[1]} {beg}"), False); lay.add(enc(word), True); pairs.append((lay, Document([pic], targets=[])))
        rows[kind] = pairs
    for kind in QUESTION_KINDS:
        rng = random.Random(f"q{kind}{held}"); pairs = []
        scenes = [sample_scene(rng, held_out=held, count=2) for _ in range(N)]
        for s, pic in zip(scenes, pictures(scenes, model.decoder.image_size)):
            q, a = ask(s, rng, kind); pairs.append(dialogue(model, [pic, q], a))
        rows[f"?{kind}"] = pairs
    rng = random.Random(f"cap{held}"); scenes = [sample_scene(rng, held_out=held) for _ in range(N)]
    rows["caption"] = [dialogue(model, [pic, DESCRIBE], description(s, background=False)) for s, pic in zip(scenes, pictures(scenes, model.decoder.image_size))]
    SETS[held] = rows
    return rows
def check():
    model.eval()
    text = " | ".join(" ".join(f"{k} {right(p)}" for k, p in sets(held).items()) for held in (False, True))
    print("   ", text, flush=True); model.train()
params = [p for p in stage.parameters() if p.requires_grad]
opt = torch.optim.AdamW(params, lr=lr, weight_decay=0.0)
t0 = time.time(); check()
for step in range(steps):
    rng = random.Random(f"pic {step}"); turns = schedule[step]; task, share = turns[step % len(turns)]
    batch = task(rng, round(share * size), model)
    f = min(1, (step + 1) / 30) * (1 if step < .6 * steps else max(.05, (steps - step) / (.4 * steps)))
    opt.param_groups[0]["lr"] = lr * f
    losses = stage(batch, torch.Generator().manual_seed(step))
    opt.zero_grad(); losses["total"].backward(); torch.nn.utils.clip_grad_norm_(params, 1.0); opt.step()
    if (step + 1) % 100 == 0 or step + 1 == steps:
        print(step + 1, f"{time.time()-t0:.0f}s", task.__name__, {k: round(v.item(), 4) for k, v in losses.items()}, flush=True)
        if (step + 1) % 200 == 0 or step + 1 == steps: check(); torch.save({k: p for k, p in model.state_dict().items() if not k.startswith(("decoder.vae", "decoder.unet", "vision.tower"))}, out)
