"""Load and save: the official layout on disk, strict key maps, nothing skipped in silence.

One folder holds `config.json`, the language model (`model.safetensors`, in shards or not), three plugin files (dream
queries; CLIP tower and projector; VAE, U-Net and projector) and the tokenizer. The official plugin files are pickles of
plain tensors, and are read as nothing else.

`loading.py` finds and loads; `layout.py` says what lies where under which name, `building.py` what the configs mean; `reading.py` and `writing.py` move
the tensors; `toy.py` has the sizes of the toy, `parts.py` what its training stages leave; `fake.py` writes a random checkpoint of full size, for `python -m minidream.weights fake-7b DIR`.
"""

from .layout import PRETRAINED, Queries, part_sizes
from .loading import KNOWN, find, find_full, load
from .reading import inventory
from .writing import save, write_folder

__all__ = [
    "KNOWN",
    "PRETRAINED",
    "Queries",
    "find",
    "find_full",
    "inventory",
    "load",
    "part_sizes",
    "save",
    "write_folder",
]
