"""Time and memory of the full weights, or of random ones of that size.

    python -m minidream.weights fake-7b FOLDER          # writes random weights of full size
    python tests/benchmarks/full_size.py FOLDER [--device cuda] [--dtype float32 | --quantize int8]
                                                [--out out/full_size.json] [--figures import]

Each figure comes from a process of its own, which starts with none of the files in memory. The
results file holds a run for each device and each form of the weights; a new run replaces the last
of its kind. With `--figures`, only these are replaced; each says how many threads it had.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from bench import write_results
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

import minidream
from minidream import probe
from minidream.llm import LLMConfig
from minidream.weights.files import as_path
from minidream.weights.quantizing import FORMS, stored_bytes
from minidream.weights.scanning import scan_folder

PROMPT = (
    "An old stone bridge over a quiet river at sunset, with two small boats, a red house behind "
    "tall trees, snow on "
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
    """Reads one byte of every memory page of the weights, which fetches mapped files from disk."""
    for parameter in model.parameters():
        parameter.detach().flatten().view(torch.uint8)[::4096].sum().item()


def status() -> dict[str, int]:
    """This process's lines of memory in /proc, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


class Sampler(threading.Thread):
    """Looks every few milliseconds how much of the resident memory belongs to no file.

    The system counts pages of mapped files as resident as long as nobody else needs the room; it
    keeps no record of the largest amount of the other pages, which have to stay.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.most = 0
        self.start()

    def run(self):
        """Never ends: the process does."""
        while True:
            self.most = max(self.most, status()["RssAnon"])
            time.sleep(0.005)


SAMPLER = Sampler()


def usage(device: str) -> dict[str, float]:
    """The peak memory of this process so far, mapped files included, and that of the GPU, in GB."""
    now = status()
    used = {
        "peak memory, GB": now["VmHWM"] / 1e9,
        "of that not mapped from files, GB": max(SAMPLER.most, now["RssAnon"]) / 1e9,
    }
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
        "weights, GB": sum(map(stored_bytes, model.state_dict().values())) / 1e9,
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
    # int8 does not work in float16.
    return full_import(folder, device, quantize, torch.float32 if quantize else torch.float16)


def peer_import(
    folder: Path, device: str, quantize: str | None, dtype: torch.dtype | None
) -> dict[str, float]:
    """transformers' `from_pretrained` on the language model alone; then every weight read once."""
    before = usage(device)["peak memory, GB"]
    sizes = json.loads((folder / "config.json").read_bytes())
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
    """Attention of the queries to 40 words and one image, twice: then all weights are in memory."""
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
# Of our import and transformers' in turn: the first finds the files in no cache at all.
TURNS = 3


def measure_full_size(
    folder: Path, device: str, quantize: str | None, dtype: str | None, known: dict, names: list
) -> dict[str, dict[str, float]]:
    """Figures of `FULL_SIZE`, each from a fresh process; prints them as they come.

    Args:
        known: figures of an earlier run, by name, for those that are not measured.
        names: of those to measure.
    """

    def fresh(name: str) -> dict[str, float]:
        forget(folder)
        command = [
            sys.executable,
            __file__,
            str(folder),
            "--device",
            device,
            "--only",
            name,
        ]
        command += ["--quantize", quantize] if quantize else ["--dtype", dtype] if dtype else []
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
        figures = {
            figure: round(value, 3) for figure, value in json.loads(said.splitlines()[-1]).items()
        }
        figures["threads"] = torch.get_num_threads()
        print(
            f"{name}: " + ", ".join(f"{figure} {value:g}" for figure, value in figures.items()),
            flush=True,
        )
        return figures

    results = {name: fresh(name) if name in names else known[name] for name in FULL_SIZE}
    as_stored = device == "cpu" and not quantize and not dtype and len(names) == len(FULL_SIZE)
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
    loaded = results["import"]
    results["ratios"] = {
        "peak memory of the import / bytes of the weights": round(
            (loaded["peak memory, GB"] - loaded["before, GB"]) / loaded["weights, GB"], 3
        )
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
    """Measures the weights in a folder, or, with --only, prints one figure as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", type=as_path, help="of the weights")
    add("--device", default="cpu", help="default: %(default)s")
    add("--quantize", choices=FORMS)
    dtypes = ["float32", "bfloat16", "float16"]
    add("--dtype", choices=dtypes, help="default: as stored")
    add("--out", type=as_path, default=Path("out/full_size.json"), help="default: %(default)s")
    add("--only", choices=FULL_SIZE, help="one figure, in this process")
    add("--figures", choices=FULL_SIZE, nargs="+", default=list(FULL_SIZE), help="default: all")
    options = parser.parse_args()
    folder, device, quantize = options.folder, options.device, options.quantize
    if options.only:
        dtype = getattr(torch, options.dtype) if options.dtype else None
        return print(json.dumps(FULL_SIZE[options.only](folder, device, quantize, dtype)))
    stored = next(iter(scan_folder(folder)["model"].tensors.values())).dtype
    run = {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU",
        "weights": quantize or options.dtype or str(stored).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    runs = json.loads(options.out.read_bytes())["runs"] if options.out.exists() else []
    kind = (run["device"], run["weights"])
    same = [other for other in runs if (other["device"], other["weights"]) == kind]
    known = same[0] if same else {}
    if missing := [name for name in FULL_SIZE if name not in [*known, *options.figures]]:
        parser.error(f"{options.out} has no run for {kind} yet, so measure {missing}, too")
    names = options.figures
    run |= measure_full_size(folder, device, quantize, options.dtype, known, names)
    write_results({"runs": [other for other in runs if other not in same] + [run]}, options.out)


if __name__ == "__main__":
    main()
