import sys, random, torch
torch.set_num_threads(1)
from pathlib import Path
from minidream.documents import collate
from minidream.weights.parts import assemble
from minidream.trainer import lessons
from minidream.trainer.lessons import unzipped
from edit_notes import edit_note
model = assemble(Path("runs/toy"), None, ()).eval()
model.llm.load_state_dict(torch.load(sys.argv[1], weights_only=True))
@torch.no_grad()
def exact(pairs):
    layouts, documents = unzipped(pairs)
    b = collate(layouts, model.tokenizer.special.pad)
    h = model.llm(model.embed(b, []))
    pred = model.llm.logits(h[:, :-1]).argmax(-1); lab = b.labels[:, 1:]
    return int(((pred == lab) | (lab < 0)).all(1).sum())
import minidream.world.language as L
for inv in (False, True):
    for plain in (1., 0.):
        for kind in ("colour","size","shape","none"):
            rng = random.Random("z"); pairs = []
            while len(pairs) < 100:
                t, n, _ = edit_note(rng, plain, (kind,))
                lessons.renamed = (lambda texts, r: L.with_invented_names(texts, r)) if inv else (lambda texts, r: texts)
                pairs.append(lessons.completed(t, n, rng, model))
            print("invented" if inv else "names", "plain" if plain else "varied", kind, exact(pairs), "/100", flush=True)
