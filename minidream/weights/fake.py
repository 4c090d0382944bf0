"""A random checkpoint of full size in the official layout, for dry runs and measurements.

It has the files, names, shapes and dtype of the published checkpoint, but its weights are random:
the pictures that it paints are noise.
"""

import shutil
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import sentencepiece
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..model import DreamLLM
from ..tokenizers import SPECIAL_TOKENS, LlamaTokenizer
from .building import EmptyWeights, build, single_precision
from .files import as_path
from .reading import SHIPPED_CONFIGS
from .writing import write_folder

PIECES = 32000  # of LLaMA's tokenizer; the ids of the special tokens follow
# Pieces that the tokenizer learns from the small amount of text available; the rest are fillers.
LEARNED = 8000
CONFIG = {"model_type": "dreamllm"}  # all sizes are left to their defaults, those of LLaMA-7B


def fake_7b(folder: str | Path, progress: bool = True) -> None:
    """Writes the random checkpoint, in bfloat16: about 16 GB.

    If it is stopped, no files are left behind.

    Args:
        folder: must not exist yet.
        progress: show a progress bar.

    Raises:
        FileExistsError: if the folder exists.
        OSError: if the disk has too little room (both numbers), before anything is written.
    """
    folder = as_path(folder)
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists already; the random checkpoint goes into a folder of its own"
        )
    model = outline_7b(new_tokenizer()).to(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    total = sum(tensor.nbytes for tensor in model.state_dict().values())
    with tqdm(
        total=total, unit="B", unit_scale=True, desc=f"writing {folder}", disable=not progress
    ) as bar:

        def value(name: str, tensor: Tensor) -> Tensor:
            bar.update(tensor.nbytes if tensor.is_meta else 0)
            return random_like(name, tensor, generator) if tensor.is_meta else tensor

        write_folder(model, folder, value=value)
    # The published folder has none either; it is read with those that ship with the package.
    shutil.rmtree(folder / "component_configs")


def outline_7b(tokenizer) -> DreamLLM:
    """A DreamLLM of the published sizes on the meta device, where tensors take no memory.

    It is built within a second from the configs that ship with the package, and serves to count
    parameters.

    Args:
        tokenizer: any; the sizes do not depend on it.
    """
    config = CONFIG | {"vocab_size": PIECES + 8}
    with single_precision(), EmptyWeights():
        return build(Path("config.json"), config, SHIPPED_CONFIGS, tokenizer)


def random_like(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """Random weights that roughly keep the scale of activations, so that none overflows.

    Matrices and kernels are drawn from N(0, 1 / inputs); scales of norms are 1 and biases 0.
    """
    if like.dim() > 1:
        std = like[0].numel() ** -0.5
        return torch.empty(like.shape, dtype=like.dtype).normal_(0, std, generator=generator)
    return torch.full(like.shape, float(name.endswith("weight")), dtype=like.dtype)


def new_tokenizer() -> LlamaTokenizer:
    """A tokenizer with as many ids as the official one, learned from Python's own help texts."""
    fillers = [f"<filler {index}>" for index in range(PIECES - LEARNED)]
    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter("\n".join(topics.values()).split("\n")),
            model_prefix=f"{folder}/tokenizer",
            model_type="bpe",
            vocab_size=PIECES,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            user_defined_symbols=fillers,
            minloglevel=2,
        )
        names = [token for token in SPECIAL_TOKENS if token not in ("<s>", "</s>", "<unk>")]
        added = {token: PIECES + index for index, token in enumerate(names)}
        return LlamaTokenizer(f"{folder}/tokenizer.model", added)
