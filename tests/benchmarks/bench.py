"""`make bench`: how long things take, as ratios to what a user would use instead, measured in the same run.

    python tests/benchmarks/bench.py [--repeats 5] [--out out/bench.json]
    python tests/benchmarks/bench.py --full-size FOLDER [--device cuda] [--dtype float32 | --quantize int8] [--out out/full_size.json]

The second form measures full weights, or random ones of that size (`python -m minidream.weights fake-7b FOLDER`). Its file
holds a run for each device and each form of the weights; a new run takes the place of the last one of its kind.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

import minidream
from minidream import probe
from minidream.dream_queries import ConditionProjector
from minidream.llm import LLM, Cache, LLMConfig
from minidream.tokenizers import ToyTokenizer
from minidream.weights import toy
from minidream.weights.files import write_atomically
from minidream.weights.reading import look_at_folder
from minidream.world.language import VOCABULARY

SIZES = dict(
    vocab_size=1000,
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=2048,
)


def seconds(work, repeats: int) -> float:
    """Median time of a call, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def twins(attention: str = "sdpa") -> tuple[LLM, LlamaForCausalLM]:
    """Our LLaMA and transformers', with the same random weights."""
    theirs = LlamaForCausalLM(
        LlamaConfig(**SIZES, attn_implementation=attention, use_cache=True)
    ).eval()
    ours = LLM(LLMConfig(**SIZES)).eval()
    ours.load_state_dict(
        {name.removeprefix("model."): value for name, value in theirs.state_dict().items()},
        strict=True,
    )
    return ours, theirs


@torch.no_grad()
def llm_forward(repeats: int) -> tuple[float, float]:
    """One pass over 512 tokens, ours and transformers'."""
    ours, theirs = twins()
    ids = torch.randint(1000, (1, 512))
    return (
        seconds(lambda: ours.logits(ours(ours.embed_tokens(ids))), repeats),
        seconds(lambda: theirs(ids, use_cache=False).logits, repeats),
    )


def llm_training_step(repeats: int) -> tuple[float, float]:
    """Forward and backward over 8 x 128 tokens."""
    ours, theirs = twins()
    ids = torch.randint(1000, (8, 128))
    return (
        seconds(
            lambda: ours.logits(ours(ours.embed_tokens(ids))).logsumexp(-1).mean().backward(),
            repeats,
        ),
        seconds(
            lambda: theirs(ids, use_cache=False).logits.logsumexp(-1).mean().backward(), repeats
        ),
    )


@torch.no_grad()
def llm_decode(repeats: int) -> tuple[float, float]:
    """64 tokens one by one after a prompt of 64, with each one's cache."""
    ours, theirs = twins()
    ids = torch.randint(1000, (1, 128))

    def our_way():
        cache = Cache()
        ours(ours.embed_tokens(ids[:, :64]), cache=cache)
        for token in range(64, 128):
            ours.logits(ours(ours.embed_tokens(ids[:, token : token + 1]), cache=cache))

    def their_way():
        past = theirs(ids[:, :64], use_cache=True).past_key_values
        for token in range(64, 128):
            past = theirs(
                ids[:, token : token + 1], past_key_values=past, use_cache=True
            ).past_key_values

    return seconds(our_way, repeats), seconds(their_way, repeats)


@torch.no_grad()
def recording(repeats: int) -> tuple[float, float]:
    """64 query rows of 1,024 inputs recorded, and transformers' `output_attentions` on the eager path."""
    ours, theirs = twins("eager")
    ids = torch.randint(1000, (1, 1024))
    holder = type("Model", (), {"llm": ours})()

    def our_way():
        with probe.watch_input(holder, torch.arange(960, 1024)):
            ours(ours.embed_tokens(ids))

    return seconds(our_way, repeats), seconds(
        lambda: theirs.model(ids, output_attentions=True, use_cache=False), repeats
    )


@torch.no_grad()
def recording_cost(repeats: int) -> tuple[float, float]:
    """The same pass with recording, and without."""
    ours, _ = twins()
    ids = torch.randint(1000, (1, 1024))
    holder = type("Model", (), {"llm": ours})()

    def watched():
        with probe.watch_input(holder, torch.arange(960, 1024)):
            ours(ours.embed_tokens(ids))

    return seconds(watched, repeats), seconds(lambda: ours(ours.embed_tokens(ids)), repeats)


@torch.no_grad()
def recording_memory() -> tuple[int, int]:
    """Bytes kept of 64 query rows of 1,024 inputs, and of transformers' `output_attentions`."""
    ours, theirs = twins("eager")
    ids = torch.randint(1000, (1, 1024))
    with probe.watch_input(type("Model", (), {"llm": ours})(), torch.arange(960, 1024)) as recorded:
        ours(ours.embed_tokens(ids))
    whole = theirs.model(ids, output_attentions=True, use_cache=False).attentions
    return tuple(
        sum(weights.numel() * weights.element_size() for weights in kept)
        for kept in (recorded, whole)
    )


def picture_recording_cost(repeats: int) -> tuple[float, float]:
    """The toy's 20 guided steps with the cross-attention of every layer recorded, and without."""
    model = minidream.load("toy", device="cpu")
    states = model.encode(["a large red circle left of a small blue square"] * 4)

    def watched():
        with probe.watch_image(model):
            model.paint(states, output_type="latent")

    return seconds(watched, repeats), seconds(
        lambda: model.paint(states, output_type="latent"), repeats
    )


@torch.no_grad()
def denoising(repeats: int) -> tuple[float, float]:
    """20 guided steps and decoding of four pictures, ours and diffusers' pipeline, on the same networks."""
    model = toy.new_model(ToyTokenizer(VOCABULARY)).eval()
    unet = UNet2DConditionModel.from_config(
        dict(model.decoder.unet.config) | {"in_channels": 4}
    ).eval()
    decoder = type(model.decoder)(
        model.decoder.vae, unet, toy.new_scheduler(), ConditionProjector(4, 4), model.decoder.config
    )
    pipe = StableDiffusionPipeline(
        decoder.vae,
        None,
        None,
        unet,
        toy.new_scheduler(),
        None,
        None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    condition, null = torch.randn(4, 16, 96), torch.randn(4, 16, 96)
    latents = torch.randn(4, 4, 8, 8)
    return (
        seconds(lambda: decoder.decode(decoder.sample(condition, null, latents, 20, 3.0)), repeats),
        seconds(
            lambda: pipe(
                prompt_embeds=condition,
                negative_prompt_embeds=null,
                latents=latents,
                num_inference_steps=20,
                guidance_scale=3.0,
                output_type="pt",
                height=32,
                width=32,
            ),
            repeats,
        ),
    )


PEERS = {
    "LLM, one pass of 512 tokens / transformers": llm_forward,
    "LLM, training step / transformers": llm_training_step,
    "LLM, 64 tokens decoded / transformers": llm_decode,
    "recording 64 query rows of 1,024 inputs / output_attentions, eager": recording,
    "recording 64 query rows of 1,024 inputs / the plain pass": recording_cost,
    "recording where latent cells look, 20 guided steps of 4 pictures / the same without": picture_recording_cost,
    "20 guided steps, 4 pictures / diffusers' pipeline": denoising,
}


# ---------------------------------------------------------------------------------------------------------------------
# Full weights. Each figure comes from a process of its own, and starts with none of the files in memory.

PROMPT = (
    "An old stone bridge over a quiet river at sunset, with two small boats, a red house behind tall trees, snow on "
    "the hills, warm light in the windows, and a cat that looks at the birds in the sky"
)
PICTURE_STEPS = 20


def forget(folder: Path) -> None:
    """Asks the system to drop the files of a folder from its cache."""
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_all(model: torch.nn.Module) -> None:
    """Reads one byte of every memory page of the weights: what is only mapped so far is fetched from the disk."""
    for parameter in model.parameters():
        parameter.detach().flatten().view(torch.uint8)[::4096].sum().item()


def usage(device: str) -> dict[str, float]:
    """The most memory that this process has used so far, in GB: on the machine, mapped files included, and on the GPU."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    used = {"peak memory, GB": int(status["VmHWM"].split()[0]) * 1024 / 1e9}
    if device.startswith("cuda"):
        used["peak GPU memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
    return used


def timed(work, device: str) -> tuple:
    """What a call gives and the seconds it takes, the GPU's part included."""
    start = time.perf_counter()
    result = work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def full_import(
    folder: Path, device: str, quantize: str | None, dtype: torch.dtype | None
) -> dict[str, float]:
    """`minidream.load`, and then every weight read once."""
    before = usage(device)["peak memory, GB"]
    model, loaded = timed(
        lambda: minidream.load(folder, device=device, dtype=dtype, quantize=quantize), device
    )
    figures = {
        "weights, GB": sum(tensor.nbytes for tensor in model.state_dict().values()) / 1e9,
        "before, GB": before,
        "to load, s": loaded,
    }
    if device == "cpu" and not quantize:
        figures["to load and read, s"] = loaded + timed(lambda: read_all(model), device)[1]
    return figures | usage(device)


def converted_import(
    folder: Path, device: str, quantize: str | None, dtype: torch.dtype | None
) -> dict[str, float]:
    """The same to a dtype that is not the stored one, so that nothing can stay mapped."""
    return full_import(folder, device, quantize, torch.float16)


def peer_import(
    folder: Path, device: str, quantize: str | None, dtype: torch.dtype | None
) -> dict[str, float]:
    """transformers' `from_pretrained` on the language model alone, as stored, and then every weight read once."""
    before = usage(device)["peak memory, GB"]
    sizes = json.loads((folder / "config.json").read_text())
    config = LlamaConfig(
        **{name: sizes[name] for name in LLMConfig.__dataclass_fields__ if name in sizes}
    )
    peer, loaded = timed(
        lambda: LlamaForCausalLM.from_pretrained(folder, config=config, dtype="auto").to(device),
        device,
    )
    return {
        "weights, GB": sum(parameter.nbytes for parameter in peer.parameters()) / 1e9,
        "before, GB": before,
        "to load, s": loaded,
        "to load and read, s": loaded + timed(lambda: read_all(peer), device)[1]
        if device == "cpu"
        else loaded,
        **usage(device),
    }


def full_attention(
    folder: Path, device: str, quantize: str | None, dtype: torch.dtype | None
) -> dict[str, float]:
    """Where the dream queries look in a prompt of 40 words and one image; the second time all weights are in memory."""
    model = minidream.load(folder, device=device, dtype=dtype, quantize=quantize)
    document = minidream.Document([Image.radial_gradient("L").convert("RGB"), PROMPT])
    trace, first = timed(lambda: probe.dream_attention(model, document), device)
    _, again = timed(lambda: probe.dream_attention(model, document), device)
    return {"positions": len(trace.inputs), "first, s": first, "again, s": again, **usage(device)}


def full_picture(
    folder: Path, device: str, quantize: str | None, dtype: torch.dtype | None
) -> dict[str, float]:
    """One guided picture, and its parts."""
    model = minidream.load(folder, device=device, dtype=dtype, quantize=quantize)
    states, encoding = timed(lambda: model.encode(PROMPT), device)
    condition = model.decoder.projector(states)
    noise = torch.randn(1, *model.decoder.latent_shape).to(device)
    latents, painting = timed(
        lambda: model.decoder.sample(
            condition, condition, noise, PICTURE_STEPS, 7.5, lambda step: noise
        ),
        device,
    )
    with torch.no_grad():
        _, decoding = timed(lambda: model.decoder.decode(latents), device)
    return {
        "pixels": model.decoder.image_size,
        "steps": PICTURE_STEPS,
        "prompt, s": encoding,
        "per step, s": painting / PICTURE_STEPS,
        "decoding, s": decoding,
        "all, s": 2 * encoding + painting + decoding,
        **usage(device),
    }


PEER = "transformers' import of the language model"
FULL_SIZE = {
    PEER: peer_import,
    "import": full_import,
    "import, converted": converted_import,
    "attention": full_attention,
    "picture": full_picture,
}
TURNS = 3  # of our import and transformers': whichever comes first finds the files cold on the disk's own side


def measure_full_size(
    folder: Path, device: str, quantize: str | None, dtype: str | None
) -> dict[str, dict[str, float]]:
    """All figures of `FULL_SIZE`, each from a fresh process; prints them as they come."""

    def fresh(name: str) -> dict[str, float]:
        forget(folder)
        command = [
            sys.executable,
            __file__,
            "--full-size",
            str(folder),
            "--device",
            device,
            "--only",
            name,
        ]
        command += ["--quantize", quantize] if quantize else ["--dtype", dtype] if dtype else []
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures = {
            figure: round(value, 3) for figure, value in json.loads(said.splitlines()[-1]).items()
        }
        print(
            f"{name}: " + ", ".join(f"{figure} {value:g}" for figure, value in figures.items()),
            flush=True,
        )
        return figures

    results = {name: fresh(name) for name in FULL_SIZE}
    as_stored = device == "cpu" and not quantize and not dtype
    if as_stored:
        turns = [(fresh(PEER), fresh("import")) for _ in range(TURNS)]
        for name, times in zip((PEER, "import"), zip(*turns)):
            results[name] |= {
                figure: statistics.median(turn[figure] for turn in times)
                for figure in ("to load, s", "to load and read, s")
            }
    used = [results[name] for name in ("import", "attention", "picture")]
    results["in short"] = {
        "loading, s": used[0].get("to load and read, s", used[0]["to load, s"]),
        "attention map, s": used[1]["again, s"],
        "picture, s": used[2]["all, s"],
        "memory at most, GB": max(
            part.get("peak GPU memory, GB", part["peak memory, GB"]) for part in used
        ),
    }
    if as_stored:
        results["ratios"] = {
            f"peak memory of the {name} / bytes of the weights": round(
                (results[name]["peak memory, GB"] - results[name]["before, GB"])
                / results[name]["weights, GB"],
                3,
            )
            for name in ("import", "import, converted")
        }
        for figure in ("to load, s", "to load and read, s"):
            ours, theirs = (results[name][figure] for name in ("import", PEER))
            results["ratios"][f"{figure[:-3]} everything / transformers' language model alone"] = (
                round(ours / theirs, 3)
            )
        for name, ratio in results["ratios"].items():
            print(f"{ratio:6.2f}x  {name}")
    return results


def main() -> None:
    """Prints a line per comparison and writes all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        help="timed calls per entry; the median counts (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, default=None, help="default: out/bench.json, or out/full_size.json"
    )
    parser.add_argument(
        "--full-size",
        type=Path,
        metavar="FOLDER",
        help="measure the weights in this folder instead",
    )
    parser.add_argument(
        "--device", default="cpu", help="of the full weights (default: %(default)s)"
    )
    parser.add_argument("--quantize", choices=["int8"], help="of the full weights")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="of the full weights (default: as stored)",
    )
    parser.add_argument(
        "--only", choices=FULL_SIZE, help="one figure of the full weights, in this process, as JSON"
    )
    options = parser.parse_args()
    if options.only:
        dtype = getattr(torch, options.dtype) if options.dtype else None
        print(
            json.dumps(
                FULL_SIZE[options.only](options.full_size, options.device, options.quantize, dtype)
            )
        )
        return
    if options.full_size:
        path = options.out or Path("out/full_size.json")
        stored = next(iter(look_at_folder(options.full_size)["model"].tensors.values())).dtype
        run = {
            "device": torch.cuda.get_device_name(options.device)
            if options.device.startswith("cuda")
            else "CPU",
            "weights": options.quantize or options.dtype or str(stored).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            **measure_full_size(options.full_size, options.device, options.quantize, options.dtype),
        }
        others = json.loads(path.read_text())["runs"] if path.exists() else []
        others = [
            other
            for other in others
            if (other["device"], other["weights"]) != (run["device"], run["weights"])
        ]
        write_results({"runs": [*others, run]}, path)
        return
    results = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ratios": {},
        "seconds": {},
    }
    for name, compare in PEERS.items():
        ours, theirs = compare(options.repeats)
        results["ratios"][name] = round(ours / theirs, 3)
        print(
            f"{ours / theirs:6.2f}x  {name}  ({ours * 1e3:.1f} ms / {theirs * 1e3:.1f} ms)",
            flush=True,
        )
    kept, whole = recording_memory()
    results["ratios"]["memory: 64 query rows of 1,024 inputs / output_attentions"] = round(
        kept / whole, 3
    )
    print(
        f"{kept / whole:6.2f}x  memory: 64 query rows of 1,024 inputs / output_attentions  ({kept / 1e6:.1f} MB / {whole / 1e6:.1f} MB)",
        flush=True,
    )
    model = minidream.load("toy", device="cpu")
    prompt = "a large red circle left of a small blue square"
    results["seconds"]["one picture"] = round(
        seconds(lambda: model.dream(prompt), options.repeats), 3
    )
    results["seconds"]["each of a batch of 16"] = round(
        seconds(lambda: model.dream([prompt] * 16), options.repeats) / 16, 3
    )
    results["seconds"]["an attention trace"] = round(
        seconds(lambda: probe.dream_attention(model, prompt), options.repeats), 4
    )
    for name, value in results["seconds"].items():
        print(f"{value:6.3f} s  {name}, {results['threads']} threads")
    write_results(results, options.out or Path("out/bench.json"))


def write_results(results: dict, path: Path) -> None:
    """Results as JSON, the folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        lambda temporary: temporary.write_text(json.dumps(results, indent=1) + "\n"), path
    )


if __name__ == "__main__":
    main()
