"""wordtrial.py FOLDER STATE LR BATCH PLAN OUT: a trial in words, from a state dict (or "-": the folder's lookup).

PLAN as in pictrial.py; tasks of `words`, and those below.
"""
import sys, random, time, torch
torch.set_num_threads(1)
from pathlib import Path
from minidream.documents import collate
from minidream.train import stages, words
from minidream.trainer import lessons
from minidream.trainer.lessons import unzipped, dialogue
from minidream.weights.parts import assemble
from minidream.world import stories, texts
from minidream.world.language import description, describe
from minidream.world.scenes import sample_scene, is_held_out
from minidream.world.questions import ask, ask_often, QUESTION_KINDS, BINDING_KINDS, NOW
folder, state, lr, size, plan, out = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6]
model = assemble(folder, "stage1", ("llm",))
if state != "-": model.llm.load_state_dict(torch.load(state, weights_only=True))
stage = stages.DocumentStage("lookup", model)
def only(*kinds, times=5, plain=0.0, count=2):
    def task(rng, n, model):
        pairs = []
        for _ in range(n):
            scene = sample_scene(rng, count=count)
            text = texts.caption_before(scene, rng, plain)
            pairs.append(lessons.questioned(text, [ask(scene, rng, rng.choice(kinds)) for _ in range(times)], rng, model))
        return unzipped(pairs)
    return task
tasks = vars(words) | dict(existence=only("existence"), relation=only("relation"), colour=only("colour"), binding=only(*BINDING_KINDS), plain_existence=only("existence", plain=1.0),
    all_kinds=only(*QUESTION_KINDS), colour_shape=only("colour", "shape"))
from minidream.world import lists
from minidream.world.questions import _ask_existence
def notes(forms, exist=0.0, plain=0.5, edited=0.0):
    def task(rng, n, model):
        pairs = []
        while len(pairs) < n:
            scene = sample_scene(rng, count=2)
            text = texts.caption_before(scene, rng, plain)
            if rng.random() < edited: text, scene = texts.described(rng, 1.0)
            form = rng.choice(forms)
            if rng.random() < exist:
                q, a = _ask_existence(scene, rng.choice(scene.objects), rng)
                note = (q.replace("is there a ", ""), a) if form == "brief" else (q, a)
            else: note = lists.note_of([o.appearance for o in scene.objects], rng, True, form)
            pairs.append(lessons.questioned(text, [note], rng, model) if form == "question" else lessons.completed(text, note, rng, model))
        return unzipped(pairs)
    return task
tasks |= dict(brief=notes(("brief",)), brief_e=notes(("brief",), .4), two=notes(("brief", "long")), all=notes(("brief", "long", "question"), .4), questions1=notes(("question",), .4), all_any=notes(("brief", "long", "question"), .4, 0.0))
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
    h = model.llm(model.embed(b, []))
    pred = model.llm.logits(h[:, :-1]).argmax(-1); lab = b.labels[:, 1:]
    return int(((pred == lab) | (lab < 0)).all(1).sum())
SETS = {}
def sets(held):
    if held in SETS: return SETS[held]
    rows = {}
    for kind in stories.NAMING:
        rng = random.Random(f"n{kind}{held}"); pairs = []
        while len(pairs) < N:
            s = sample_scene(rng, count=2, held_out=held and kind in ("vanish", "resize"))
            e = stories.edit_of(s, kind, rng, .25)
            if e and is_held_out(e[0]) == held:
                t = f"{describe(s, rng, background=True).text}. {rng.choice(e[1:])}".rstrip(".")
                pairs.append(dialogue(model, [f"{t}. {NOW}"], description(e[0])))
        rows[kind] = pairs
    for kind in QUESTION_KINDS:
        rng = random.Random(f"q{kind}{held}"); pairs = []
        for _ in range(N):
            s = sample_scene(rng, count=2, held_out=held); q, a = ask(s, rng, kind)
            pairs.append(dialogue(model, [f"{describe(s, rng, background=True).text}. {q}"], a))
        rows[f"?{kind}"] = pairs
    for form in lists.FORMS:
        rng = random.Random(f"form{form}{held}"); rows[f"-{form}"] = list(zip(*notes((form,), 0., 0.)(rng, N, model)))
    rows["-exist"] = list(zip(*notes(("brief",), 1., 0.)(rng, N, model)))
    SETS[held] = rows
    return rows
def check():
    model.eval()
    text = " | ".join(" ".join(f"{k} {right(p)}" for k, p in sets(held).items()) for held in (False, True))
    print("   ", text, flush=True); model.train()
params = list(model.llm.parameters())
opt = torch.optim.AdamW(params, lr=lr, weight_decay=0.02)
t0 = time.time(); check()
for step in range(steps):
    rng = random.Random(f"word {step}"); turns = schedule[step]; task, share = turns[step % len(turns)]
    batch = task(rng, round(share * size), model)
    f = min(1, (step + 1) / 30) * (1 if step < .6 * steps else max(.05, (steps - step) / (.4 * steps)))
    opt.param_groups[0]["lr"] = lr * f
    loss = stage(batch, torch.Generator().manual_seed(step))["total"]
    opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(params, 1.0); opt.step()
    if (step + 1) % 100 == 0 or step + 1 == steps:
        print(step + 1, f"{time.time()-t0:.0f}s {loss.item():.4f}", flush=True)
        if (step + 1) % 200 == 0 or step + 1 == steps: check(); torch.save(model.llm.state_dict(), out)
