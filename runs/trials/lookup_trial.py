"""lookup_trial.py OPT(adamw|muon) LR STEPS MIX FOLDER START(llm|lookup): a trial of teaching to look up."""
import random, sys, time, math, torch
torch.set_num_threads(1)
from pathlib import Path
from minidream.documents import collate
from minidream.train import words, stages
from minidream.trainer.lessons import questioned, unzipped, replied
from minidream.weights.parts import assemble
from minidream.world import texts, lists, stories
from minidream.world.language import description, describe
from minidream.world.scenes import sample_scene
from minidream.world.questions import ask
import os
opt, lr, steps, mix, folder, start = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]), sys.argv[6]
before = {"llm": "lookup", "lookup": "stage1"}[start]
model = assemble(folder, before, ("llm",))
if os.environ.get("FROM"): model.llm.load_state_dict(torch.load(os.environ["FROM"], weights_only=True))
stage = stages.DocumentStage("lookup", model)

def asked(rng, n, model):
    """Scenes; several questions at once, each answer learned."""
    pairs = []
    for _ in range(n):
        if rng.random() < .5:
            looks, sized = lists.sample_looks(rng), rng.random() < .5
            text = lists.listed(looks, sized)
            turns = lists.questions_of(looks, rng, sized)[:5]
        else:
            text, scene = texts.described(rng, edited=.3)
            turns = [ask(scene, rng) for _ in range(5)]
        pairs.append(questioned(text, turns, rng, model))
    return unzipped(pairs)

def short_edits(rng, n, model):
    """Named edits of lists, only one changed object to say."""
    return words.restated(rng, n, model)

def chat_notes(rng, n, model):
    """Scenes and lists, and questions in the chat template, each with one answer."""
    pairs = []
    for _ in range(n):
        text, looks, sized = texts.with_looks(rng)
        note = lists.note_of(looks, rng, sized, rng.choice(("question","question","brief","long")))
        pairs.append(questioned(text, [note], rng, model))
    return unzipped(pairs)

def list_notes(rng, n, model):
    pairs = []
    from minidream.trainer.lessons import completed
    for _ in range(n):
        looks, sized = lists.sample_looks(rng), rng.random() < .5
        pairs.append(completed(lists.listed(looks, sized), lists.note_of(looks, rng, sized, rng.choice(("brief","long"))), rng, model))
    return unzipped(pairs)

ROLES = {"left of": "left", "right of": "right", "above": "above", "below": "below"}

def role_note(rng, edited=.3, plain=.3, copies=True):
    """A scene of two objects and a note that says where one of them is."""
    from minidream.world.wordings import varied_caption
    while True:
        scene = sample_scene(rng, count=2)
        text = description(scene) if rng.random() < plain else varied_caption(scene, rng, background=True).text
        if rng.random() < edited:
            scene, *wordings = stories.sample_edit_of(scene, rng)
            text = f"{text}. {rng.choice(wordings)}".rstrip(".")
        if len(scene.objects) < 2: continue
        i = rng.randrange(2); o, other = scene.objects[i], scene.objects[1-i]
        names = [f"the {o.colour} {o.shape} is"]
        if o.shape != other.shape: names += [f"{o.shape} is", f"the {o.shape} is"] * 2
        if o.colour != other.colour: names += [f"{o.colour} is", f"the {o.colour} thing is"]
        return text, (rng.choice(names), ROLES[scene.relation_of(i)])

def role_notes(rng, n, model, edited=.3, plain=.3):
    from minidream.trainer.lessons import completed
    return unzipped([completed(*role_note(rng, edited, plain), rng, model) for _ in range(n)])

def plain_roles(rng, n, model):
    return role_notes(rng, n, model, 0., 1.)

from edit_notes import *
from slots import slots
SL=(slots,2.0)
EN=(edit_notes,2.0)
N2=(words.noted,2.0); R2=(role_notes,2.0); P2=(plain_roles,2.0); E2=(words.restated,2.0)
from functools import partial
MIX = {"half": ((words.decided,2.0),(list_notes,2.0)), "varied": ((partial(edit_notes, plain=0.0), 2.0),), "mix": stages.LATER_TASKS["lookup"][2400], "pure": ((words.decided,2.0),)}
plan = [(m, int(k)) for m, k in (each.split(":") for each in mix.split(","))]
steps = sum(k for _, k in plan)
schedule = [m for m, k in plan for _ in range(k)]
hidden = [p for n,p in model.llm.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
ids = {id(p) for p in hidden}
rest = [p for p in model.llm.parameters() if id(p) not in ids]
if opt == "muon":
    optims = [torch.optim.Muon(hidden, lr=lr, weight_decay=.02, adjust_lr_fn="match_rms_adamw"), torch.optim.AdamW(rest, lr=min(lr,1e-3), weight_decay=.02, betas=(.9,.99))]
else:
    optims = [torch.optim.AdamW(model.llm.parameters(), lr=lr, weight_decay=.02)]

@torch.no_grad()
def exact(layouts, documents):
    b = collate(layouts, model.tokenizer.special.pad)
    h = model.llm(model.embed(b, []))
    pred = model.llm.logits(h[:, :-1]).argmax(-1); lab = b.labels[:, 1:]
    return ((pred == lab) | (lab < 0)).all(1)

def check():
    model.eval(); out = {}
    rng = random.Random("check")
    for kind in stories.NAMING:
        drawn = []
        while len(drawn) < 64:
            s = sample_scene(rng, count=2)
            e = stories.edit_of(s, kind, rng, .25)
            if e: drawn.append((f"{describe(s, rng, background=True).text}. {rng.choice(e[1:])}".rstrip("."), e[0]))
        pairs=[]
        from minidream.trainer.lessons import dialogue
        from minidream.world.questions import NOW
        for t, s in drawn: pairs.append(dialogue(model, [f"{t}. {NOW}"], description(s)))
        out[kind] = int(exact(*unzipped(pairs)).sum())
    pairs=[]
    while len(pairs) < 128:
        s = sample_scene(rng, count=2); q, a = ask(s, rng)
        if "col" in q: pairs.append(dialogue(model, [f"{describe(s, rng, background=True).text}. {q}"], a))
    out["colour of 128"] = int(exact(*unzipped(pairs)).sum())
    for source in ("list","caption"):
        for form in lists.FORMS:
            rng = random.Random("d"); pairs=[]
            from minidream.trainer.lessons import completed
            while len(pairs) < 100:
                if source=="list": looks, sized = lists.sample_looks(rng), rng.random()<.5; text=lists.listed(looks,sized)
                else:
                    s = sample_scene(rng, count=2); looks=[o.appearance for o in s.objects]; sized=True; text=describe(s, rng, background=True).text
                note = lists.note_of(looks, rng, sized, form)
                if note[1] not in [l[1] for l in looks]: continue
                pairs.append(questioned(text,[note],rng,model) if form=="question" else completed(text,note,rng,model))
            out[source[:1]+form[:1]] = int(exact(*unzipped(pairs)).sum())
    rng = random.Random("r"); from minidream.trainer.lessons import completed
    out["role"] = int(exact(*unzipped([completed(*role_note(rng, 0.), rng, model) for _ in range(100)])).sum())
    rng = random.Random("e"); out["restate"] = int(exact(*words.restated(rng, 100, model)).sum())
    rng = random.Random("f"); out["named"] = int(exact(*words.restated(rng, 100, model)).sum())
    out |= check_notes(model, exact)
    model.train(); return out

t0 = time.time(); print("start", check(), flush=True)
sums = []
for step in range(steps):
    rng = random.Random(f"trial {step}")
    tasks = MIX[schedule[step]]; task, share = tasks[step % len(tasks)]
    batch = task(rng, round(share * float(os.environ.get("BATCH", 32))), model)
    f = min(1, (step + 1) / 50) * (1 if step < .6 * steps else max(.05, (steps - step) / (.4 * steps)))
    loss = stage(batch, torch.Generator().manual_seed(step))["total"]
    for o in optims:
        for g in o.param_groups:
            g.setdefault("base", g["lr"]); g["lr"] = g["base"] * f
        o.zero_grad()
    loss.backward(); torch.nn.utils.clip_grad_norm_(model.llm.parameters(), 1.0)
    for o in optims: o.step()
    if task is words.restated: sums.append(loss.item())
    if step + 1 == steps or (step + 1) % 400 == 0: torch.save(model.llm.state_dict(), os.environ['OUT'])
    if (step + 1) % 200 == 0:
        print(step + 1, f"{time.time()-t0:.0f}s named {sum(sums[-30:])/max(1,len(sums[-30:])):.4f}", check() if (step+1) % int(os.environ.get("EVERY", 200)) == 0 else "", flush=True)
