"""Fine-tuning as a stage that `trainer.fit` trains."""

from ..model import DreamLLM
from ..trainer.documents import DocumentLosses
from ..trainer.loop import Recipe
from .stream import Stream


class TuneStage(DocumentLosses):
    """A DreamLLM learns from a stream of the user's documents.

    Args:
        model: in which `choices.choose` has chosen what learns.
        stream: of its documents.
        recipe: of the run.
    """

    name = "tune"

    def __init__(self, model: DreamLLM, stream: Stream, recipe: Recipe):
        super().__init__(model)
        self.stream, self.recipe = stream, recipe

    def batch(self, seed: int, step: int, process: int):
        """Layouts and documents; all processes have the same ones, and share them."""
        return self.stream.batch(step, self.recipe.batch)
