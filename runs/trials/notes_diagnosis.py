import sys, random, torch
torch.set_num_threads(1)
from pathlib import Path
from minidream.documents import collate
from minidream.trainer.lessons import dialogue, completed, questioned, unzipped
from minidream.weights.parts import assemble
from minidream.world import texts, lists
from minidream.world.language import description, describe
from minidream.world.scenes import sample_scene
from minidream.world.questions import ask
from minidream.world.wordings import varied_caption
model = assemble(Path(sys.argv[1]), sys.argv[2], ("llm",)).eval().requires_grad_(False)
@torch.no_grad()
def exact(layouts, documents):
    b = collate(layouts, model.tokenizer.special.pad)
    pred = model.llm.logits(model.llm(model.embed(b, []))[:, :-1]).argmax(-1); lab = b.labels[:, 1:]
    return ((pred == lab) | (lab < 0)).all(1)
class NoRename(random.Random): pass
import minidream.trainer.lessons as L
orig = L.renamed
N=200
def run(name, source, form, kind=None, ren=False):
    L.renamed = (lambda t, r: t) if not ren else (lambda t, r: L.with_invented_names(t, r))
    rng = random.Random("d"); pairs=[]
    while len(pairs) < N:
        if source=="list": looks, sized = lists.sample_looks(rng), rng.random()<.5; text=lists.listed(looks,sized)
        else:
            s = sample_scene(rng, count=2); looks=[o.appearance for o in s.objects]; sized=True
            text = {"caption": describe(s, rng, background=True).text, "plain": description(s)}[source]
        note = lists.note_of(looks, rng, sized, form)
        if kind=="colour" and note[1] not in [l[1] for l in looks]: continue
        p = questioned(text,[note],rng,model) if form=="question" else completed(text,note,rng,model)
        pairs.append(p)
    ok = exact(*unzipped(pairs)); print(name, source, form, kind, "renamed" if ren else "", int(ok.sum()), N, flush=True)
for source in ("list","plain","caption"):
    for form in lists.FORMS:
        run("", source, form, "colour")
run("", "caption", "question", "colour", True); run("", "list", "question", "colour", True)
