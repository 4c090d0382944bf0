"""Categories of prompts and edits in which the toy is measured: those of the field's benchmarks."""

from ..world.scenes import Scene, is_held_out

# How a picture is painted: from the prompt; after saying in words what it will show; and from the
# plain description of the right picture, which is what perfect thoughts would say.
MODES = ("direct", "thinking", "oracle")
# ImgEdit's categories, and the kinds of edits of the toy world that come nearest to them. (There,
# "compose" is several edits at once; here, one that changes both objects.)
EDIT_CATEGORIES = {
    "add": ("appear",),
    "adjust": ("recolour", "resize"),
    "background": ("background",),
    "replace": ("reshape",),
    "remove": ("vanish",),
    "compose": ("swap", "exchange"),
}
# These make no new combination of shape and colour, so that a held-out one must be there before.
KEEPING = ("background", "remove")
# GenEval's categories but counting, which this world has not: the number of objects, and what a
# prompt leaves out. Two objects have different shapes, since their names are all that some say.
PROMPT_CATEGORIES = {
    "single object": (1, ("size", "colour")),
    "two objects": (2, ("size", "colour", "relation")),
    "colors": (1, ("size",)),
    "position": (2, ("size", "colour")),
    "color attribution": (2, ("size", "relation")),
}
# What can be held out of these: "a star" or "a star and a ring" leave nothing that could be.
HELD_OUT_PROMPTS = ("colors", "position", "color attribution")


def said_by_prompt(scene: Scene, held_out: bool, relation: bool) -> bool:
    """Whether a prompt that leaves things out says what is asked of a scene of two objects.

    Shapes have to tell the objects apart; and what is held out, shapes with their colours or the
    arrangement of shapes, has to be what the prompt says.

    Args:
        scene: of two objects.
        held_out: whether it is held out.
        relation: whether the prompt says the relation, and no colours; or colours and no relation.
    """
    of_objects = any(is_held_out(Scene((item,))) for item in scene.objects)
    different = len({item.shape for item in scene.objects}) == 2
    return different and (not held_out or of_objects != relation)
