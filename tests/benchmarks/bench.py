"""`make bench`: how long things take, as ratios to what a user would use instead.

    python tests/benchmarks/bench.py [--pairs 15] [--only WORDS] [--records 10000] [--out FILE]

The two sides of a comparison are timed in turn, so that a machine that is busy for a while slows
both. Each pair gives one ratio. Printed are the median of the ratios and its 95 % interval, which
lies between two of the sorted ratios (order statistics; it assumes no distribution).

`full_size.py` beside this file measures the full weights, `notebooks.py` the notebooks.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from data_readers import reading
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from scipy.stats import binom
from transformers import LlamaConfig, LlamaForCausalLM

import minidream
from minidream import probe
from minidream.dream_queries import ConditionProjector
from minidream.llm import LLM, Cache, LLMConfig
from minidream.tokenizers import ToyTokenizer
from minidream.weights import toy
from minidream.weights.files import as_path, write_atomically
from minidream.world.language import VOCABULARY
from minidream.world.render import render
from minidream.world.scenes import sample_scene

SIZES = dict(
    vocab_size=1000,
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=2048,
)
PROMPT = "a large red circle left of a small blue square"
Pair = tuple[Callable[[], object], Callable[[], object]]


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and the order statistics that enclose the true median with 95 % confidence."""
    ordered, count = sorted(values), len(values)
    rank = max(0, int(binom.ppf(0.025, count, 0.5)) - 1)
    return statistics.median(ordered), ordered[rank], ordered[count - 1 - rank]


def compare(pair: Pair, pairs: int) -> dict[str, float]:
    """Times both sides in turn: the median ratio with its interval, and the median seconds of each.

    Which side comes first changes from pair to pair.
    """
    ours, theirs = pair
    ours(), theirs()  # warm up
    times = []
    for index in range(pairs):
        if index % 2:
            peer, own = seconds(theirs), seconds(ours)
        else:
            own, peer = seconds(ours), seconds(theirs)
        times.append((own, peer))
    ratio, low, high = median_interval([own / peer for own, peer in times])
    own, peer = (statistics.median(column) for column in zip(*times))
    return {"ratio": ratio, "low": low, "high": high, "ours, s": own, "theirs, s": peer}


def twins(attention: str = "sdpa") -> tuple[LLM, LlamaForCausalLM]:
    """Our LLaMA and transformers', with the same random weights."""
    config = LlamaConfig(**SIZES, attn_implementation=attention, use_cache=True)
    theirs = LlamaForCausalLM(config).eval()
    ours = LLM(LLMConfig(**SIZES)).eval()
    weights = {name.removeprefix("model."): value for name, value in theirs.state_dict().items()}
    ours.load_state_dict(weights, strict=True)
    return ours, theirs


def llm_forward() -> Pair:
    """One pass over 512 tokens."""
    ours, theirs = twins()
    ids = torch.randint(1000, (1, 512))
    return (
        torch.no_grad()(lambda: ours.logits(ours(ours.embed_tokens(ids)))),
        torch.no_grad()(lambda: theirs(ids, use_cache=False).logits),
    )


def llm_training_step() -> Pair:
    """Forward and backward over 8 x 128 tokens."""
    ours, theirs = twins()
    ids = torch.randint(1000, (8, 128))
    return (
        lambda: ours.logits(ours(ours.embed_tokens(ids))).logsumexp(-1).mean().backward(),
        lambda: theirs(ids, use_cache=False).logits.logsumexp(-1).mean().backward(),
    )


def llm_decode() -> Pair:
    """64 tokens one by one after a prompt of 64, with each one's cache."""
    ours, theirs = twins()
    ids = torch.randint(1000, (1, 128))

    @torch.no_grad()
    def our_way():
        cache = Cache()
        ours(ours.embed_tokens(ids[:, :64]), cache=cache)
        for token in range(64, 128):
            ours.logits(ours(ours.embed_tokens(ids[:, token : token + 1]), cache=cache))

    @torch.no_grad()
    def their_way():
        past = theirs(ids[:, :64], use_cache=True).past_key_values
        for token in range(64, 128):
            fresh = ids[:, token : token + 1]
            past = theirs(fresh, past_key_values=past, use_cache=True).past_key_values

    return our_way, their_way


class Holder:
    """A language model alone, as `watch_input` takes it."""

    def __init__(self, llm: LLM):
        self.llm = llm


ROWS = torch.arange(960, 1024)


def recording() -> Pair:
    """64 query rows of 1,024 inputs, and transformers' `output_attentions` on the eager path."""
    ours, theirs = twins("eager")
    ids = torch.randint(1000, (1, 1024))

    @torch.no_grad()
    def our_way():
        with probe.watch_input(Holder(ours), ROWS) as recorded:
            ours(ours.embed_tokens(ids))
        return recorded

    @torch.no_grad()
    def their_way():
        return theirs.model(ids, output_attentions=True, use_cache=False).attentions

    return our_way, their_way


def recording_cost() -> Pair:
    """The same pass with recording, and without."""
    ours, _ = twins()
    ids = torch.randint(1000, (1, 1024))

    @torch.no_grad()
    def watched():
        with probe.watch_input(Holder(ours), ROWS):
            ours(ours.embed_tokens(ids))

    return watched, torch.no_grad()(lambda: ours(ours.embed_tokens(ids)))


def picture_recording_cost() -> Pair:
    """The toy's 20 guided steps with the cross-attention of every layer recorded, and without."""
    model = minidream.load("toy", device="cpu")
    states = model.encode([PROMPT] * 4)

    def watched():
        with probe.watch_image(model):
            model.paint(states, output_type="latent")

    return watched, lambda: model.paint(states, output_type="latent")


def denoising() -> Pair:
    """20 guided steps and decoding of four pictures, on the networks of diffusers' pipeline."""
    model = toy.new_model(ToyTokenizer(VOCABULARY)).eval()
    channels = model.decoder.latent_shape[0]  # and no sines of positions, unlike the toy
    unet_config = dict(model.decoder.unet.config) | {"in_channels": channels}
    unet = UNet2DConditionModel.from_config(unet_config).eval()
    vae, config = model.decoder.vae, model.decoder.config
    decoder_class, projector = type(model.decoder), ConditionProjector(4, 4)
    decoder = decoder_class(vae, unet, toy.new_scheduler(), projector, config)
    absent = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        scheduler=toy.new_scheduler(),
        requires_safety_checker=False,
        **absent,
    )
    pipe.set_progress_bar_config(disable=True)
    condition, null = torch.randn(4, 16, 96), torch.randn(4, 16, 96)
    latents = torch.randn(4, *decoder.latent_shape)
    options = {"height": decoder.image_size, "width": decoder.image_size, "output_type": "pt"}

    @torch.no_grad()
    def our_way():
        return decoder.decode(decoder.sample(condition, null, latents, 20, 3.0))

    def their_way():
        return pipe(
            prompt_embeds=condition,
            negative_prompt_embeds=null,
            latents=latents,
            num_inference_steps=20,
            guidance_scale=3.0,
            **options,
        )

    return our_way, their_way


COMPARISONS = {
    "LLM, one pass of 512 tokens / transformers": llm_forward,
    "LLM, training step / transformers": llm_training_step,
    "LLM, 64 tokens decoded / transformers": llm_decode,
    "recording 64 query rows of 1,024 inputs / output_attentions, eager": recording,
    "recording 64 query rows of 1,024 inputs / the plain pass": recording_cost,
    "recording where latent cells look, 20 guided steps / the same without": picture_recording_cost,
    "20 guided steps, 4 pictures / diffusers' pipeline": denoising,
}


def recording_memory() -> tuple[int, int]:
    """Bytes kept by our recording, and by transformers' `output_attentions`."""
    return tuple(sum(weights.nbytes for weights in side()) for side in recording())


def start_up(pairs: int) -> dict[str, float]:
    """`import minidream` against `import torch`, each in a fresh Python."""

    def starting(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    return compare((starting("minidream"), starting("torch")), pairs)


def absolute_seconds(repeats: int) -> dict[str, float]:
    """Median seconds of what a reader waits for."""
    model = minidream.load("toy", device="cpu")
    redraw = probe.dream_attention(model, PROMPT).explore().redraw
    rng = random.Random(0)
    scenes = [sample_scene(rng) for _ in range(256)]
    works = {
        "one picture": (lambda: model.dream(PROMPT), 1),
        "each of a batch of 16": (lambda: model.dream([PROMPT] * 16), 16),
        "an attention trace": (lambda: probe.dream_attention(model, PROMPT), 1),
        "a move of an explorer": (redraw, 1),
        "each of 256 rendered scenes": (lambda: render(scenes, 64), 256),
    }
    found = {}
    for name, (work, parts) in works.items():
        work()
        found[name] = statistics.median(seconds(work) for _ in range(repeats)) / parts
    return found


def write_results(results: dict, path: Path) -> None:
    """Writes results as JSON, the folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(lambda temporary: temporary.write_text(text, encoding="utf-8"), path)
    print(f"written to {path}")


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Figures to five digits after the point."""
    return {name: round(value, 5) for name, value in figures.items()}


def show(name: str, found: dict[str, float]) -> None:
    """One line per comparison."""
    print(
        f"{found['ratio']:6.2f}x [{found['low']:.2f}, {found['high']:.2f}]  {name}  "
        f"({found['ours, s'] * 1e3:.1f} ms / {found['theirs, s'] * 1e3:.1f} ms)",
        flush=True,
    )


def main() -> None:
    """Prints a line per comparison and writes all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pairs", type=int, default=15, help="timed pairs each (default: %(default)s)")
    add("--only", default="", help="only comparisons whose name holds these words")
    add("--records", type=int, default=10_000, help="of each data reader (default: %(default)s)")
    add("--out", type=as_path, default=Path("out/bench.json"), help="default: %(default)s")
    options = parser.parse_args()
    if options.pairs < 6:
        parser.error(f"a 95 % interval of a median needs at least 6 pairs, not {options.pairs}")
    if options.records < 1:
        parser.error(f"at least 1 record is read, not {options.records}")
    results = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    results |= {"pairs": options.pairs, "comparisons": {}, "records per second": {}}
    readers = reading(options.records)
    for name, sides in (COMPARISONS | readers).items():
        if options.only in name:
            found = compare(sides(), options.pairs)
            show(name, found)
            results["comparisons"][name] = rounded(found)
            if name in readers:
                rate = round(options.records / found["ours, s"])
                results["records per second"][name] = rate
                print(f"{rate:8,} records per second")
    if not options.only:
        name = "import minidream / import torch"
        found = start_up(options.pairs)
        show(name, found)
        results["comparisons"][name] = rounded(found)
        kept, whole = recording_memory()
        results["memory of recorded rows / output_attentions"] = round(kept / whole, 4)
        print(f"{kept / whole:6.2f}x  memory of recorded rows / output_attentions")
        results["seconds"] = rounded(absolute_seconds(options.pairs))
        for name, value in results["seconds"].items():
            print(f"{value * 1e3:8.2f} ms  {name}")
    write_results(results, options.out)


if __name__ == "__main__":
    main()
