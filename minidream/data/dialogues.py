"""Dialogues: documents that know which of their items are the model's replies."""

from PIL import Image

from ..documents import TEMPLATES, Document, Layout
from ..images import as_index


class Dialogue(Document):
    """What a person says and shows, and the model's replies. All images are only read.

    Args:
        items: str and PIL images, as in a Document; each reply follows what it answers.
        replies: indices of the items that are replies. The last item is one.

    Raises:
        TypeError, ValueError: as Document; for a reply that is no text of the dialogue; and if the
            dialogue begins with a reply, has two in a row, or does not end with one.
    """

    def __init__(self, items: list, replies: list[int]):
        super().__init__(items, targets=[])
        count = len(self.items)
        self.replies = tuple(
            as_index("reply", reply, count, f"the dialogue has {count} items") for reply in replies
        )
        if [self.items[reply] for reply in self.replies if not isinstance(self.items[reply], str)]:
            raise ValueError("a reply is an image; replies are text")
        turns = list(zip((-1, *self.replies), self.replies))
        if not turns or self.replies[-1] != count - 1 or any(a + 1 >= b for a, b in turns):
            raise ValueError(
                f"the {count} items are no dialogue with the replies {list(self.replies)}: each "
                "reply follows what it answers, and the last item is one"
            )

    def layout(self, model) -> Layout:
        """The dialogue in the model's chat template; only replies and their `</s>` are learned.

        A general text at the beginning of the template occurs once, before the first turn.
        """
        tokenizer, special, layout = model.tokenizer, model.tokenizer.special, Layout()
        before, after = TEMPLATES[model.config.template]
        speaker = before.rpartition(". ")[2]  # "USER: ", without the sentences in front of it
        layout.add([special.bos], learned=False)
        text, image = before, 0
        for place, item in enumerate(self.items):
            if isinstance(item, Image.Image):
                layout.add(tokenizer.encode(text) if text else [], learned=False)
                layout.add_image(image, special, model.vision.patches)
                text, image = "", image + 1
            elif place in self.replies:
                asked = f"{text} {after.lstrip()}" if text else after
                layout.add(tokenizer.encode(asked), learned=False)
                layout.add([*tokenizer.encode(item), special.eos], learned=True)
                text = speaker
            else:
                text += item if text.endswith(" ") or not text else f" {item}"
        return layout
