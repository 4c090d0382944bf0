"""Load and save checkpoints in the official layout; no tensor is skipped silently.

A checkpoint is a folder that holds `config.json`, the language model (`model.safetensors`, perhaps
in shards), three plugin files (dream queries; CLIP tower and projector; VAE, U-Net and projector)
and the tokenizer. The official plugin files are pickles; a pickle that holds more than tensors is
refused.

| file | holds |
|---|---|
| `loading.py` | `load`, `find` a folder, and `inventory` of its files |
| `layout.py` | which tensor is in which file under which name |
| `building.py` | an empty model from the configs |
| `reading.py`, `writing.py` | tensors from files and to files |
| `toy.py` | the sizes of the toy |
| `parts.py` | the parts that training stages leave |
| `files.py`, `commands.py` | atomic writes and JSON; command lines |
| `fake.py` | a random checkpoint of full size: `python -m minidream.weights fake-7b DIR` |
"""

from .layout import PRETRAINED, Queries, part_sizes
from .loading import KNOWN, find, find_full, inventory, load
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
