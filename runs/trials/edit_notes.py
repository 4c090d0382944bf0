from dataclasses import replace
import random
from minidream.world.scenes import *
from minidream.world.scenes import place_objects, COLOURS, SHAPES, SIZES, sample_scene, is_held_out
from minidream.world.language import description
from minidream.world.wordings import varied_caption
from minidream.trainer.lessons import completed, unzipped, OPENINGS
def attr(scene, i, kind, value):
    objs = list(scene.objects); objs[i] = replace(objs[i], **{kind: value}); return replace(scene, objects=tuple(objs))
def edit_note(rng, plain=.5, kinds=("colour","size","shape","none")):
    while True:
        scene = sample_scene(rng, count=2)
        a, b = scene.objects
        if a.shape == b.shape: continue
        i = rng.randrange(2); o, other = scene.objects[i], scene.objects[1-i]
        kind = rng.choice(kinds)
        name = o.shape if rng.random() < .8 else f"{o.colour} {o.shape}"
        if kind == "colour":
            v = rng.choice([c for c in COLOURS if c not in (a.colour, b.colour)])
            change = rng.choice((f"the {name} becomes {v}", f"the {name} turns {v}", f"the same but the {name} is {v}"))
        elif kind == "shape":
            v = rng.choice([c for c in SHAPES if c not in (a.shape, b.shape)])
            change = rng.choice((f"the {name} becomes a {v}", f"the same but the {name} is a {v}"))
        elif kind == "size":
            if a.size != b.size: continue
            v = {"large": "small", "small": "large"}[a.size]
            change = f"the same but the {name} is {'larger' if v == 'large' else 'smaller'}" if rng.random() < .5 else f"the {name} {'grows' if v == 'large' else 'shrinks'}"
        if kind == "none":
            change = rng.choice((f"the same but without the {name}", f"the {name} disappears"))
            one, two = (replace(scene, objects=(scene.objects[k],)) for k in (1-i, i))
        else:
            one, two = attr(scene, i, kind, v), attr(scene, 1-i, kind, v)
        if is_held_out(one): continue
        text = description(scene) if rng.random() < plain else varied_caption(scene, rng, background=True).text
        w1, w2 = description(one).replace(",", " ,").split(), description(two).replace(",", " ,").split()
        p = next((k for k, (x, y) in enumerate(zip(w1, w2)) if x != y), None)
        if p is None: continue
        begin = " ".join(w1[:p])
        return f"{text}. {change}", (f"now there is {begin}".strip(), w1[p]), kind
def edit_notes(rng, n, model, plain=.5):
    return unzipped([completed(*edit_note(rng, plain)[:2], rng, model) for _ in range(n)])
def check_notes(model, exact, n=100):
    out = {}
    for kind in ("colour","size","shape","none"):
        rng = random.Random("en" + kind)
        out["n" + kind[:2]] = int(exact(*unzipped([completed(*edit_note(rng, .5, (kind,))[:2], rng, model) for _ in range(n)])).sum())
    return out
