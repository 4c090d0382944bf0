import random
from minidream.world.language import description, describe
from minidream.world.wordings import varied_caption
from minidream.world import stories
from minidream.world.scenes import sample_scene, is_held_out
from minidream.trainer.lessons import renamed, unzipped, OPENINGS
from minidream.world.questions import NOW, DESCRIBE
from minidream.documents import Layout, Document, turn_layout
KINDS = ("size", "colour", "shape")
def look_kinds(before, after):
    if len(before.objects) != len(after.objects): return KINDS
    pairs = list(zip(before.objects, after.objects))
    return tuple(k for k in KINDS if any(getattr(a, k) != getattr(b, k) for a, b in pairs))
def slots(rng, n, model, by_colour=.25, plain=.5):
    pairs = []
    while len(pairs) < n:
        before = sample_scene(rng, count=2)
        e = stories.edit_of(before, rng.choice(stories.NAMING), rng, by_colour)
        if not e or is_held_out(e[0]): continue
        after = e[0]
        caption = description(before) if rng.random() < plain else varied_caption(before, rng, background=True).text
        reply = describe(after.leading_first, background=True)
        text, words = renamed([f"{caption}. {rng.choice(e[1:])}".rstrip("."), reply.text], rng)
        kinds = look_kinds(before, after)
        if rng.random() < .5: layout = turn_layout(model, [f"{text}. {rng.choice((NOW, DESCRIBE))}"])[0]
        else:
            layout = Layout(); layout.add([model.tokenizer.special.bos, *model.tokenizer.encode(text + OPENINGS[1])], learned=False)
        for word, role in zip(words.split(), reply.roles, strict=True):
            layout.add(model.tokenizer.encode(word), learned=bool(role) and role[0] in kinds)
        pairs.append((layout, Document([])))
    return unzipped(pairs)
