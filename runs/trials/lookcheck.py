"""lookcheck.py FOLDER STAGE [final]: the language model in words, from the EMA of a checkpoint."""
import sys, random, torch
torch.set_num_threads(1)
from pathlib import Path
from minidream.documents import collate
from minidream.weights.parts import assemble, load_part
from minidream.world import stories
from minidream.world.language import description, describe
from minidream.world.scenes import sample_scene, is_held_out
from minidream.trainer.lessons import dialogue, unzipped, completed, questioned
from minidream.world.questions import NOW, ask, QUESTION_KINDS
from minidream.train import words
folder, stage = Path(sys.argv[1]), sys.argv[2]
model = assemble(folder, None, ()).eval()
if len(sys.argv) > 3 and sys.argv[3] == "final": load_part(folder / f"{stage}.llm.safetensors", model.llm); step = "final"
else:
    c = torch.load(folder / f"{stage}.checkpoint.pt", weights_only=True, map_location="cpu")
    ps = [p for p in model.llm.parameters()]
    with torch.no_grad():
        for p, v in zip(ps, c["average"]["shadow_params"], strict=True): p.copy_(v)
    step = c["step"]
print("step", step)
@torch.no_grad()
def exact(pairs):
    layouts, documents = unzipped(pairs)
    b = collate(layouts, model.tokenizer.special.pad)
    h = model.llm(model.embed(b, []))
    pred = model.llm.logits(h[:, :-1]).argmax(-1); lab = b.labels[:, 1:]
    return int(((pred == lab) | (lab < 0)).all(1).sum())
N = 100
def edits(kind, bycol, held):
    rng = random.Random(f"n {kind} {bycol} {held}"); pairs = []
    while len(pairs) < N:
        s = sample_scene(rng, count=None if kind in ("appear",) else 2, held_out=held and kind in ("vanish", "background", "resize"))
        if kind in stories.NAMING and len(s.objects) == 2 and s.objects[0].shape == s.objects[1].shape: continue
        e = stories.edit_of(s, kind, rng, bycol)
        if e and is_held_out(e[0]) == held:
            t = f"{describe(s, rng, background=True).text}. {rng.choice(e[1:])}".rstrip(".")
            pairs.append(dialogue(model, [f"{t}. {NOW}"], description(e[0])))
    return exact(pairs)
for kind in stories.EDITS:
    if kind in stories.NAMING:
        print(kind, [f"{'colour' if c else 'shape'} {edits(kind, c, False)} {edits(kind, c, True)}" for c in (0, 1)], flush=True)
    else: print(kind, edits(kind, 0, False), edits(kind, 0, True), flush=True)
for held in (False, True):
    rng = random.Random(f"q{held}"); out = {}
    for kind in QUESTION_KINDS:
        pairs = []
        for _ in range(N):
            s = sample_scene(rng, count=2, held_out=held); q, a = ask(s, rng, kind)
            pairs.append(dialogue(model, [f"{describe(s, rng, background=True).text}. {q}"], a))
        out[kind] = exact(pairs)
    pairs = []
    for _ in range(N):
        s = sample_scene(rng, held_out=held); pairs.append(dialogue(model, [f"{describe(s, rng, background=True).text}. {NOW}"], description(s)))
    out["restate"] = exact(pairs)
    print("held" if held else "seen", out, flush=True)
for name in ("noted_briefly", "noted", "placed", "decided", "decided_in_any_words"):
    try: l, d = getattr(words, name)(random.Random("x"), N, model); print(name, exact(list(zip(l, d))), end=" ")
    except AttributeError: pass
print()
if "show" in sys.argv:
    rng = random.Random("show")
    while True:
        s = sample_scene(rng, count=2)
        if s.objects[0].shape == s.objects[1].shape: continue
        e = stories.edit_of(s, "recolour", rng, .5)
        if not e or is_held_out(e[0]): continue
        t = f"{describe(s, rng, background=True).text}. {rng.choice(e[1:])}".rstrip(".")
        got = model.chat(f"{t}. {NOW}")
        if got != description(e[0]): print(t, "->", got)
        if rng.random() < .04: break
