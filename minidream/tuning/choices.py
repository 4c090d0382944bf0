"""Which parameters of a DreamLLM learn when it is fine-tuned."""

import torch
from torch import nn

from ..model import DreamLLM
from .words import fix_old_rows, free_rows

CHOICES = ("lora", "projectors", "llm", "unet")
# Of these matrices a LoRA is trained, as for the table of `weights fits`.
LORA_MATRICES = ["q_proj", "v_proj"]


def check_choices(learn: tuple[str, ...]) -> None:
    """Refuses what cannot learn together, or without a package that is missing.

    Raises:
        ValueError: for a LoRA beside the whole language model.
        ImportError: for a LoRA without peft.
    """
    if {"lora", "llm"} <= set(learn):
        raise ValueError("a LoRA is for a frozen language model: choose lora or llm, not both")
    if "lora" in learn:
        try:
            import peft  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "a LoRA needs peft: pip install 'minidream[tune]', or choose --learn projectors"
            ) from error


def modules_of(model: DreamLLM, choice: str) -> list[nn.Module]:
    """The modules of a choice; the dream queries, which belong to the projectors, are none."""
    if choice == "projectors":
        vision = [model.vision.projector, model.vision.post_layernorm]
        return [each for each in (*vision, model.decoder.projector) if each is not None]
    return {"llm": [model.llm], "unet": [model.decoder.unet], "lora": []}[choice]


def choose(model: DreamLLM, learn: tuple[str, ...], rank: int = 8, new_words: int = 0) -> None:
    """Freezes a model but for what is to learn, which becomes float32.

    Of a language model that does not learn as a whole, the rows of new words learn all the same.

    Args:
        model: changed in place. A LoRA, which starts where nothing is changed, draws from torch's
            generator.
        learn: some of `CHOICES`.
        rank: of the LoRA.
        new_words: how many rows at the end of the vocabulary are new.
    """
    model.requires_grad_(False)
    if "lora" in learn:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_MATRICES)
        model.llm = get_peft_model(model.llm, config)
    for choice in learn:
        for module in modules_of(model, choice):
            module.float().requires_grad_(True)
    if "projectors" in learn:
        model.dream_queries.data = model.dream_queries.data.float()
        model.dream_queries.requires_grad_(True)
    if new_words and "llm" not in learn:
        fix_old_rows(model.llm, new_words)


def merge(model: DreamLLM, dtypes: dict[str, torch.dtype]) -> None:
    """Undoes what `choose` did to the form of a model, but not what was learned, in place.

    Args:
        model: with a LoRA or fixed rows, perhaps.
        dtypes: of the parameters before, by name: `dtypes_of`.
    """
    free_rows(model.llm)
    if hasattr(model.llm, "merge_and_unload"):
        model.llm = model.llm.merge_and_unload()
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtypes[name])
    model.eval().requires_grad_(False)


def dtypes_of(model: DreamLLM) -> dict[str, torch.dtype]:
    """The dtype of each parameter, by name."""
    return {name: parameter.dtype for name, parameter in model.named_parameters()}


def trained_of(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
