"""Loading and saving models in the official layout, strictly: no tensor is skipped silently.

A checkpoint is a folder that holds `config.json`, the tokenizer, the language model
(`model.safetensors`, in one file or in shards) and three plugin files: dream queries; CLIP tower
and projector; VAE, U-Net and projector. The official plugin files are pickles of tensors. They are
read as tensors only, and code in them is never run.

| file | what it does |
|---|---|
| `loading` | finds or downloads the folder of a name and loads a model: `minidream.load` |
| `writing` | writes a model: `minidream.save` |
| `checking` | refuses what `load` would refuse, before anything is written |
| `replacing` | replaces a set of files in a folder, all or none |
| `layout` | says which file holds which tensor, and under which name |
| `scanning` | lists the tensors in the files of a checkpoint without reading them |
| `variants` | says which values of the configs' fields this package computes, and refuses others |
| `building` | builds an empty model from the configs |
| `tokenizer_files` | reads the tokenizer, also from `tokenizer.json`, and the special tokens' ids |
| `reading` | checks that files and model fit, then fills the model |
| `quantizing` | packs the matrices of the language model in eight or four bits, as they are read |
| `memory` | bytes of the published weights, and what fits on a card: `... minidream.weights fits` |
| `toy` | the toy's sizes, its untrained parts, and the networks that ship beside it |
| `parts` | the parts that training stages leave, and models put together from them |
| `fake` | a random checkpoint of full size: `python -m minidream.weights fake-7b DIR` |
| `files`, `commands` | helpers for files and for command lines, which other folders use too |
"""

from .layout import PRETRAINED, TINY, DreamQueriesModule, part_sizes
from .loading import HUB_NAMES, find, find_full, load
from .scanning import inventory
from .writing import save, write_folder

__all__ = [
    "HUB_NAMES",
    "PRETRAINED",
    "TINY",
    "DreamQueriesModule",
    "find",
    "find_full",
    "inventory",
    "load",
    "part_sizes",
    "save",
    "write_folder",
]
