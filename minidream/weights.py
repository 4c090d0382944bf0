"""Load and save: the official layout on disk, strict key maps, nothing skipped in silence.

One folder holds `config.json`, the language model (`model.safetensors`, in shards or not), three plugin files (dream
queries; CLIP tower and projector; VAE, U-Net and projector) and the tokenizer. The official plugin files are pickles of
plain tensors, and are read as nothing else.
"""

import json
import os
import pickle
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from .diffusion import Decoder, DiffusionConfig
from .documents import SPECIAL_TOKENS
from .dream import ConditionProjector
from .llm import LLM, LLMConfig
from .model import DreamConfig, DreamLLM
from .tokenizers import LlamaTokenizer, ToyTokenizer
from .vision import CLIP_MEAN, CLIP_STD, VisionEncoder

PRETRAINED = Path(__file__).parent / "pretrained"
KNOWN = ("RunpeiDong/dreamllm-7b-chat-aesthetic-v1.0", "RunpeiDong/dreamllm-7b-chat-v1.0")
PLUGINS = ("dream_embedding", "clip_vision_embedding", "stable_diffusion_head")
# Buffers that some writers stored and that are recomputed here.
RECOMPUTED = ("rotary_emb.inv_freq", "embeddings.position_ids")


def load(name: str | Path, device=None, dtype: torch.dtype | None = None, component_configs: str | Path | None = None,
         quantize: str | None = None) -> DreamLLM:
    """Loads a DreamLLM, ready to use.

    Args:
        name: "toy" (in the package); a folder in the official layout; a folder that `minidream.train` wrote; or a hub id.
        device: None takes CUDA if there is one, else the CPU.
        dtype: None is float32 for the toy, else as stored.
        component_configs: a folder with `clip_vision/` and `diffusion/{unet,vae,scheduler}/`, in place of the one in
            the checkpoint.
        quantize: "int8" stores the language model's matrices in eight bits (needs torchao).

    Raises:
        ValueError: for an unknown name (says what exists), a config of another model, a checkpoint with missing, extra
            or misshapen tensors (their names), a pickle that holds more than tensors.
        FileNotFoundError: for a file that is not there.
    """
    if quantize not in (None, "int8"):
        raise ValueError(f'quantize is None or "int8", not {quantize!r}')
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    folder = find(name)
    if not (folder / "config.json").exists():
        from .stages import assemble
        model = assemble(folder)
    else:
        model = read_folder(folder, dtype or (torch.float32 if str(name) == "toy" else None), component_configs)
    model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    if quantize == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
        quantize_(model.llm.layers, Int8WeightOnlyConfig())
    return model


def find(name: str | Path) -> Path:
    """The folder that a name stands for; ValueError says what exists."""
    if str(name) == "toy":
        return PRETRAINED / "toy"
    folder = Path(name)
    if folder.is_dir():
        if (folder / "config.json").exists() or list(folder.glob("stage3.*.safetensors")):
            return folder
        raise FileNotFoundError(f"{folder / 'config.json'} is missing: {folder} is neither in the official layout nor the "
                                "folder of a finished training")
    if str(name) in KNOWN or (isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/", "~"))
                              and not folder.parent.exists()):
        from huggingface_hub import snapshot_download
        try:
            return Path(snapshot_download(name, ignore_patterns=["training_args.bin"]))
        except Exception as error:
            raise ValueError(f"{name!r} is no folder here, and could not be had from the hub: {error}") from error
    raise ValueError(f"no weights are known as {str(name)!r}. There are: \"toy\", a folder in the official layout, a "
                     f"folder that minidream.train wrote, or a hub id such as {KNOWN[0]!r}")


# ---------------------------------------------------------------------------------------------------------------------
# Reading

def read_json(path: Path) -> dict:
    """A JSON file; FileNotFoundError or ValueError name it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or `.bin` file, mapped into memory.

    ValueError for a file that is broken, or a pickle that holds more than tensors: it is not run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is a pickle that holds more than tensors and could run code; it was refused: {error}") from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read, it may be cut short: {error}") from error


def read_llm(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """The language model's tensors, in one file or in shards with an index, and the file to name in errors."""
    for suffix, stem in ((".safetensors", "model"), (".bin", "pytorch_model")):
        index, single = folder / f"{stem}{suffix}.index.json", folder / f"{stem}{suffix}"
        if index.exists():
            tensors: dict[str, Tensor] = {}
            listed = read_json(index)["weight_map"]
            for shard in sorted(set(listed.values())):
                if not (folder / shard).exists():
                    raise FileNotFoundError(f"{folder / shard} is missing; {index.name} lists it")
                tensors |= read_tensors(folder / shard)
            if set(listed) != set(tensors):
                raise ValueError(f"{index} and its shards name different tensors: {sorted(set(listed) ^ set(tensors))[:5]}")
            return tensors, index
        if single.exists():
            return read_tensors(single), single
    raise FileNotFoundError(f"{folder} holds no language model: neither model.safetensors nor pytorch_model.bin, nor an index of shards")


def read_plugin(folder: Path, plugin: str) -> tuple[dict[str, Tensor], Path]:
    """A plugin's tensors and its file: `.bin` as the official code writes them, `.safetensors` as the toy is shipped."""
    for path in (folder / f"{plugin}.bin", folder / f"{plugin}.safetensors"):
        if path.exists():
            return read_tensors(path), path
    raise FileNotFoundError(f"{folder / plugin}.bin is missing")


def fill(module: nn.Module, tensors: dict[str, Tensor], path: Path, names: dict[str, str], dtype: torch.dtype | None) -> None:
    """Gives a module its tensors, every one of them, and takes none that it does not know.

    Args:
        module: to be filled; its parameters may be on the meta device.
        tensors: by the names in the file.
        path: the file, for errors.
        names: {name in the module: name in the file}.
        dtype: to convert to; None keeps what is stored.

    Raises:
        ValueError: names up to five missing, extra and misshapen tensors, with both shapes.
    """
    wanted = module.state_dict()
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(RECOMPUTED)}
    missing = sorted(names[name] for name in wanted if names[name] not in tensors)
    extra = sorted(set(tensors) - set(names.values()))
    misshapen = [f"{names[name]} {tuple(tensors[names[name]].shape)} instead of {tuple(value.shape)}"
                 for name, value in wanted.items() if names[name] in tensors and tensors[names[name]].shape != value.shape]
    faults = [f"{len(found)} {kind}: {', '.join(found[:5])}{' …' if len(found) > 5 else ''}"
              for kind, found in (("missing", missing), ("extra", extra), ("misshapen", misshapen)) if found]
    if faults:
        raise ValueError(f"{path} does not fit the model. Tensors {'; '.join(faults)}")
    module.load_state_dict({name: tensors[names[name]].to(dtype=dtype) for name in wanted}, strict=True, assign=True)


class Queries(nn.Module):
    """The dream queries as a module of their own, so that they are saved and loaded like every other part."""

    def __init__(self, dream_queries: nn.Parameter):
        super().__init__()
        self.dream_queries = dream_queries


def files_of(model: DreamLLM) -> dict[str, tuple[nn.Module, dict[str, str]]]:
    """What lies in which file: {stem of the file: (module, {name in the module: name in the file})}."""
    queries = Queries(model.dream_queries)
    return {
        "model": (model.llm, {name: name if name.startswith("lm_head.") else f"model.{name}" for name in model.llm.state_dict()}),
        "dream_embedding": (queries, {"dream_queries": "dream_queries"}),
        # transformers 5 dropped the level "vision_model." that the official files have.
        "clip_vision_embedding": (model.vision, {
            name: name.replace("tower.", "clip_vision_model.vision_model.", 1) if name.startswith("tower.")
            else f"projector.{name}" for name in model.vision.state_dict()}),
        "stable_diffusion_head": (model.decoder, {name: name for name in model.decoder.state_dict()}),
    }


def read_folder(folder: Path, dtype: torch.dtype | None = None, component_configs: str | Path | None = None) -> DreamLLM:
    """A DreamLLM from a folder in the official layout; arguments and errors as `load`."""
    config = read_json(folder / "config.json")
    if config.get("model_type") != "dreamllm":
        raise ValueError(f"{folder / 'config.json'} is of a {config.get('model_type')!r} model, not of a 'dreamllm'")
    with init_empty_weights(include_buffers=False):
        model = build(folder, config, Path(component_configs) if component_configs else folder / "component_configs")
    for stem, (module, names) in files_of(model).items():
        tensors, path = read_llm(folder) if stem == "model" else read_plugin(folder, stem)
        fill(module, tensors, path, names, dtype)
        if isinstance(module, Queries):
            model.dream_queries = module.dream_queries
    return model


def build(folder: Path, config: dict, components: Path) -> DreamLLM:
    """An unfilled DreamLLM of the sizes that `config.json` and the component configs say."""
    plugins = config["plugins_init_kwargs"]
    clip, sd = plugins["clip_vision_embedding"], plugins["stable_diffusion_head"]
    for name, plugin in (("clip_vision_embedding", clip), ("stable_diffusion_head", sd)):
        if plugin.get("projector_type", "linear") != "linear":
            raise ValueError(f"{folder / 'config.json'}: {name} has a projector of type {plugin['projector_type']!r}; \"linear\" is what is known")
    toy = config.get("minidream", {})       # what the official layout has no place for
    llm = LLM(LLMConfig(**{name: config[name] for name in LLMConfig.__dataclass_fields__ if name in config}))
    tower = CLIPVisionModel(CLIPVisionConfig.from_dict(read_json(components / "clip_vision" / "config.json")))
    pixels = read_json(components / "clip_vision" / "preprocessor_config.json")
    vision = VisionEncoder(tower, llm.config.hidden_size, clip.get("select_layer", -2), pixels.get("image_mean", CLIP_MEAN),
                           pixels.get("image_std", CLIP_STD))
    unet, vae, noise = (read_json(components / "diffusion" / part) for part in (
        "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"))
    unet = UNet2DConditionModel.from_config(unet)
    ancestral = noise.get("_class_name") != "DDIMScheduler"
    # The official code samples with DDPM whatever the config says. DDIM with eta 1 is the same process, and takes the
    # noise of each step from outside, so that a picture's noise can be its own.
    scheduler = DDIMScheduler.from_config(noise, **({"set_alpha_to_one": True} if ancestral else {}))
    diffusion = DiffusionConfig(eta=1.0 if ancestral else 0.0, snr_gamma=sd.get("snr_gamma"), drop_prob=sd.get("drop_prob") or 0.0,
                                **{name: toy[name] for name in ("num_inference_steps", "guidance_scale") if name in toy})
    decoder = Decoder(AutoencoderKL.from_config(vae), unet, scheduler,
                      ConditionProjector(llm.config.hidden_size, unet.config.cross_attention_dim, sd.get("projector_depth", 1)), diffusion)
    queries = nn.Parameter(torch.empty(1, plugins["dream_embedding"]["num_dream_queries"], llm.config.hidden_size))
    return DreamLLM(llm, vision, decoder, queries, read_tokenizer(folder, config),
                    DreamConfig(toy.get("template", "vicuna_v1.1"), config["loss_weight_lm"], config["loss_weight_vm"]))


def read_tokenizer(folder: Path, config: dict):
    """The folder's tokenizer; ValueError if its files disagree about a special token."""
    if (folder / "words.json").exists():
        return ToyTokenizer(read_json(folder / "words.json"))
    added = read_json(folder / "added_tokens.json")
    said = config["special_tokens2ids_dict"]
    said = {name: number for name, number in said.items() if isinstance(number, int)} | said["additional_special_tokens"]
    differ = {name: (number, said.get(name)) for name, number in added.items() if said.get(name) != number}
    if differ:
        raise ValueError(f"{folder}: added_tokens.json and config.json disagree about {differ}")
    if not (folder / "tokenizer.model").exists():
        raise FileNotFoundError(f"{folder / 'tokenizer.model'} is missing")
    return LlamaTokenizer(folder / "tokenizer.model", added, said["<s>"], said["</s>"], said["<unk>"])


# ---------------------------------------------------------------------------------------------------------------------
# Writing

def save(model: DreamLLM, folder: str | Path) -> None:
    """Writes a model in the official layout.

    Everything is written beside the folder first and then moved into place, so that a kill or a full disk leaves what
    was there before. ValueError if the folder holds something that is no checkpoint.
    """
    write_folder(model, Path(folder), lambda tensors, stem, to: torch.save(tensors, to / f"{stem}.bin"))


def write_folder(model: DreamLLM, folder: Path, write_plugin) -> None:
    """As `save`; `write_plugin(tensors, stem, folder)` writes one plugin file."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise ValueError(f"{folder} holds files but no checkpoint; choose an empty or a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for stem, (module, names) in files_of(model).items():
            tensors = {names[name]: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
            if stem == "model":
                save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
            else:
                write_plugin(tensors, stem, new)
        write_configs(model, new)
        for path in [new, *new.rglob("*")]:     # temporary folders and safetensors' files are their owner's alone
            path.chmod(0o755 if path.is_dir() else 0o644)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_configs(model: DreamLLM, folder: Path) -> None:
    """`config.json`, the component configs and the tokenizer, in the official layout."""
    tokenizer, diffusion = model.tokenizer, model.decoder.config
    ids = {name: getattr(tokenizer.special, name.strip("<>")) for name in SPECIAL_TOKENS if name not in ("[PAD]", "<s>", "</s>", "<unk>")}
    config = {
        "model_type": "dreamllm", "architectures": ["DreamLLMForCausalMLM"], **asdict(model.llm.config), "hidden_act": "silu",
        "attention_bias": False, "tie_word_embeddings": False, "rope_scaling": None, "bos_token_id": tokenizer.bos,
        "eos_token_id": tokenizer.eos, "pad_token_id": 0, "loss_weight_lm": model.config.loss_weight_lm,
        "loss_weight_vm": model.config.loss_weight_vm, "loss_scale_schedule": "none",
        "special_tokens2ids_dict": {"<s>": tokenizer.bos, "</s>": tokenizer.eos, "<unk>": tokenizer.unk,
                                    "[PAD]": tokenizer.special.pad, "additional_special_tokens": ids},
        "plugins_type": {"clip_vision_embedding": "embedding", "dream_embedding": "embedding", "stable_diffusion_head": "head"},
        "plugins_init_kwargs": {
            "dream_embedding": {"num_dream_queries": model.queries, "embed_hidden_size": model.llm.config.hidden_size},
            "clip_vision_embedding": {"projector_type": "linear", "projector_depth": 1, "select_layer": model.vision.select_layer},
            "stable_diffusion_head": {"projector_type": "linear", "projector_depth": model.decoder.projector.depth,
                                      "drop_prob": diffusion.drop_prob or None, "snr_gamma": diffusion.snr_gamma}},
        "minidream": {"template": model.config.template, "num_inference_steps": diffusion.num_inference_steps,
                      "guidance_scale": diffusion.guidance_scale}}
    scheduler = dict(model.decoder.scheduler.config) | {"_class_name": "DDPMScheduler" if diffusion.eta else "DDIMScheduler"}
    components = {"clip_vision/config.json": model.vision.tower.config.to_dict(),
                  "clip_vision/preprocessor_config.json": {"image_mean": model.vision.mean, "image_std": model.vision.std},
                  "diffusion/unet/config.json": dict(model.decoder.unet.config), "diffusion/vae/config.json": dict(model.decoder.vae.config),
                  "diffusion/scheduler/scheduler_config.json": scheduler}
    for name, content in {"config.json": config, **{f"component_configs/{name}": content for name, content in components.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=1, default=str) + "\n")
    tokenizer.save(folder)
