"""thoughts.py CODEFOLDER N [CKPT]: thoughts of edits: which word is wrong."""
import sys, random, torch
from minidream.generate import thought_after
torch.set_num_threads(1)
from pathlib import Path
from collections import Counter
from minidream.weights.parts import assemble, part_file
from minidream.weights import parts
from minidream.documents import Document
from minidream.studies.toy_evaluation import ToyEvaluation
from minidream.world.language import description, parse_caption
from minidream.world.questions import DESCRIBE
from minidream.world.stories import Story
from minidream.trainer.lessons import document_of
folder, n, name = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
from minidream.train.stages import DocumentStage
model = assemble(folder, name)
stage = DocumentStage(name, model)
if not (folder / f"{name}.dream_queries.safetensors").exists():
    c = torch.load(folder / f"{name}.checkpoint.pt", weights_only=True, map_location="cpu")
    trained = [p for p in stage.parameters() if p.requires_grad]
    with torch.no_grad():
        for p, v in zip(trained, c["average"]["shadow_params"], strict=True): p.copy_(v)
    print("step", c["step"])
else: print("finished"); model = assemble(folder, None)
model.eval()
class E(ToyEvaluation):
    def __init__(s, model, n): s.model, s.n, s.size, s.seed = model, n, model.decoder.image_size, 7
ev = E(model, n)
show = len(sys.argv) > 4
for held in (False, True):
    rng = random.Random(f"t {held}")
    tot, right, kinds = Counter(), Counter(), Counter()
    for before, after, ins, cat in ev.changes(rng, held, instructions=True):
        story = Story((before, ins, after), given=(0,))
        doc = Document(document_of(story, ev.size).items[:-1], targets=[])
        opened = doc.with_thought("now there is")
        with torch.no_grad(): thought = thought_after(model, opened, model.open_layout(opened))
        key = (len(after.objects), cat); tot[key] += 1
        want = after.facts; got = parse_caption(thought)
        from minidream.world.judge import Reading
        ok = got is not None and Reading(want).agrees(got)
        right[key] += ok
        if not ok and show and held: print(f"{cat} | {description(before)} | {ins} -> {thought} (want {description(after)})")
    print("held" if held else "seen", {f"{k[0]} {k[1]}": f"{right[k]}/{tot[k]}" for k in sorted(tot)}, "two:", sum(v for k, v in right.items() if k[0]==2), "/", sum(v for k, v in tot.items() if k[0]==2), "all:", sum(right.values()), "/", sum(tot.values()), flush=True)
