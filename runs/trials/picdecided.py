"""picdecided.py FOLDER STAGE: decisive words of edits of pictures, from a checkpoint's EMA."""
import sys, random, torch, os
torch.set_num_threads(1)
sys.argv = [sys.argv[0], *sys.argv[1:]]
from pathlib import Path
folder, name = Path(sys.argv[1]), sys.argv[2]
from minidream.train.stages import DocumentStage
from minidream.weights.parts import assemble
from minidream.documents import collate, Document, Layout
from minidream.trainer.lessons import unzipped, pictures, OPENINGS, dialogue
from minidream.world import stories
from minidream.world.language import description
from minidream.world.scenes import sample_scene, is_held_out
from minidream.world.texts import misread
from minidream.world.questions import ask, ask_simply, QUESTION_KINDS, DESCRIBE
import importlib
from minidream.weights.parts import ORDER
if not (folder / f"{name}.dream_queries.safetensors").exists():
    model = assemble(folder, name); stage = DocumentStage(name, model)
    c = torch.load(folder / f"{name}.checkpoint.pt", weights_only=True, map_location="cpu")
    with torch.no_grad():
        for p, v in zip([p for p in stage.parameters() if p.requires_grad], c["average"]["shadow_params"], strict=True): p.copy_(v)
    print("step", c["step"])
else:
    after = (ORDER + (None,))[ORDER.index(name) + 1]
    model = assemble(folder, after); print("finished", name)
model.eval()
@torch.no_grad()
def right(pairs):
    layouts, documents = unzipped(pairs)
    b = collate(layouts, model.tokenizer.special.pad)
    h = model.llm(model.embed(b, [i for d in documents for i in d.images]))
    pred = model.llm.logits(h[:, :-1]).argmax(-1); lab = b.labels[:, 1:]
    return int(((pred == lab) | (lab < 0)).all(1).sum())
N = 100
for held in (False, True):
    row = []
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
        row.append(f"{kind} {right(pairs)}")
    qs = []
    for kind in (*QUESTION_KINDS, "simple"):
        rng = random.Random(f"q{kind}{held}"); pairs = []
        scenes = [sample_scene(rng, held_out=held, count=2) for _ in range(N)]
        for s, pic in zip(scenes, pictures(scenes, model.decoder.image_size)):
            q, a = ask_simply(s, rng) if kind == 'simple' else ask(s, rng, kind); pairs.append(dialogue(model, [pic, q], a))
        qs.append(f"{kind} {right(pairs)}")
    rng = random.Random(f"cap{held}"); scenes = [sample_scene(rng, held_out=held) for _ in range(N)]
    pairs = [dialogue(model, [pic, DESCRIBE], description(s, background=False)) for s, pic in zip(scenes, pictures(scenes, model.decoder.image_size))]
    print("held" if held else "seen", row, qs, "caption", right(pairs), flush=True)
