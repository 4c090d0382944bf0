"""J.py: from finished parts, learn decisive words of edits of pictures."""
import random, sys, time, torch, os
torch.set_num_threads(1)
from pathlib import Path
from safetensors.torch import save_file
from minidream.documents import collate, Document, Layout
from minidream.train import words, stages, batches
from minidream.trainer.lessons import unzipped, pictures, laid_out, OPENINGS, OPENING
from minidream.weights.parts import assemble, parts_of
from minidream.world import stories
from minidream.world.language import description
from minidream.world.scenes import sample_scene, is_held_out
from edit_notes import attr
folder, lr, steps = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
model = assemble(folder, None)
stage = stages.DocumentStage("stage3", model)
def reading(before, after):
    if len(after.objects) == 1:
        kept = [o.appearance for o in before.objects].index(after.objects[0].appearance)
        return stories.replace(before, objects=(before.objects[1 - kept],))
    i = [a.appearance != b.appearance for a, b in zip(before.objects, after.objects)].index(True)
    changed = {k: getattr(after.objects[i], k) for k in ("size", "colour", "shape") if getattr(after.objects[i], k) != getattr(before.objects[i], k)}
    objs = list(before.objects); objs[1 - i] = stories.replace(objs[1 - i], **changed)
    return stories.replace(before, objects=tuple(objs))
def decisive(before, after):
    w1, w2 = description(after).split(), description(reading(before, after)).split()
    p = next((k for k, (x, y) in enumerate(zip(w1, w2)) if x != y), None)
    return None if p is None else (" ".join(w1[:p]), w1[p])
def sample(rng, held=False, kind=None, by_colour=.25):
    while True:
        before = sample_scene(rng, count=2, held_out=held and rng.random() < .3)
        e = stories.edit_of(before, kind or rng.choice(stories.NAMING), rng, by_colour)
        if not e or is_held_out(e[0]) != held: continue
        d = decisive(before, e[0])
        if d: return before, e, d
def decided(rng, n, model, held=False, kind=None):
    drawn = [sample(rng, held, kind) for _ in range(n)]
    pics = pictures([b for b, _, _ in drawn], model.decoder.image_size)
    out = []
    for pic, (before, e, (beg, word)) in zip(pics, drawn):
        lay = Layout(); enc = model.tokenizer.encode
        lay.add([model.tokenizer.special.bos], False); lay.add_image(0, model.tokenizer.special, model.vision.patches)
        lay.add(enc(f"{e[2]}{OPENINGS[1]} {beg}"), False); lay.add(enc(word), True)
        out.append((lay, Document([pic], targets=[])))
    return unzipped(out)
@torch.no_grad()
def right(layouts, documents):
    from minidream.generate import pictures_of
    b = collate(layouts, model.tokenizer.special.pad)
    h = model.llm(model.embed(b, [i for d in documents for i in d.images]))
    pred = model.llm.logits(h[:, :-1]).argmax(-1); lab = b.labels[:, 1:]
    return int(((pred == lab) | (lab < 0)).all(1).sum())
def check():
    model.eval(); out = {}
    for held in (False, True):
        for kind in stories.NAMING:
            out[f"{'held' if held else 'seen'} {kind}"] = right(*decided(random.Random(f"c{kind}{held}"), 100, model, held, kind))
    model.train(); return out
if __name__ == "__main__":
    params = [p for n, p in model.named_parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=lr, weight_decay=0.0)
    t0 = time.time(); print("start", check(), flush=True)
    losses = []
    mix = os.environ.get("MIXED")
    for step in range(steps):
        rng = random.Random(f"J {step}")
        for g in opt.param_groups: g["lr"] = lr * min(1, (step + 1) / 30)
        if mix and step % 2: task, n = random.Random(step // 2).choice(stages.TASKS["stage3"]); batch = task(rng, round(n * 64), model)
        else: batch = batches.decided_edits(rng, 48, model)
        loss = stage(batch, torch.Generator().manual_seed(step))
        opt.zero_grad(); loss["total"].backward(); torch.nn.utils.clip_grad_norm_(params, 1.0); opt.step()
        if not (mix and step % 2): losses.append(loss["language"].item())
        if (step + 1) % 100 == 0:
            print(step + 1, f"{time.time()-t0:.0f}s {sum(losses[-30:])/30:.3f}", check() if (step + 1) % 200 == 0 else "", flush=True)
            own = parts_of(model); torch.save({k: own[k].state_dict() for k in ("llm", "visual_projector", "dream_queries", "condition_projector")}, os.environ["OUT"])
