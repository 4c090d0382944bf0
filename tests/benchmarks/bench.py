"""`make bench`: how long things take, as ratios to what a user would use instead, measured in the same run.

    python tests/benchmarks/bench.py [--repeats 5] [--out out/bench.json]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import minidream
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from minidream import probe, toy
from minidream.dream import ConditionProjector
from minidream.llm import LLM, Cache, LLMConfig
from minidream.tokenizers import ToyTokenizer
from minidream.train import write_atomically
from minidream.world.language import VOCABULARY
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = dict(vocab_size=1000, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=8,
             num_key_value_heads=4, max_position_embeddings=2048)


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
    theirs = LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation=attention, use_cache=True)).eval()
    ours = LLM(LLMConfig(**SIZES)).eval()
    ours.load_state_dict({name.removeprefix("model."): value for name, value in theirs.state_dict().items()}, strict=True)
    return ours, theirs


@torch.no_grad()
def llm_forward(repeats: int) -> tuple[float, float]:
    """One pass over 512 tokens, ours and transformers'."""
    ours, theirs = twins()
    ids = torch.randint(1000, (1, 512))
    return (seconds(lambda: ours.logits(ours(ours.embed_tokens(ids))), repeats), seconds(lambda: theirs(ids, use_cache=False).logits, repeats))


def llm_training_step(repeats: int) -> tuple[float, float]:
    """Forward and backward over 8 x 128 tokens."""
    ours, theirs = twins()
    ids = torch.randint(1000, (8, 128))
    return (seconds(lambda: ours.logits(ours(ours.embed_tokens(ids))).logsumexp(-1).mean().backward(), repeats),
            seconds(lambda: theirs(ids, use_cache=False).logits.logsumexp(-1).mean().backward(), repeats))


@torch.no_grad()
def llm_decode(repeats: int) -> tuple[float, float]:
    """64 tokens one by one after a prompt of 64, with each one's cache."""
    ours, theirs = twins()
    ids = torch.randint(1000, (1, 128))

    def our_way():
        cache = Cache()
        ours(ours.embed_tokens(ids[:, :64]), cache=cache)
        for token in range(64, 128):
            ours.logits(ours(ours.embed_tokens(ids[:, token:token + 1]), cache=cache))

    def their_way():
        past = theirs(ids[:, :64], use_cache=True).past_key_values
        for token in range(64, 128):
            past = theirs(ids[:, token:token + 1], past_key_values=past, use_cache=True).past_key_values

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

    return seconds(our_way, repeats), seconds(lambda: theirs.model(ids, output_attentions=True, use_cache=False), repeats)


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
def denoising(repeats: int) -> tuple[float, float]:
    """20 guided steps and decoding of four pictures, ours and diffusers' pipeline, on the same networks."""
    model = toy.new_model(ToyTokenizer(VOCABULARY)).eval()
    unet = UNet2DConditionModel.from_config(dict(model.decoder.unet.config) | {"in_channels": 4}).eval()
    decoder = type(model.decoder)(model.decoder.vae, unet, toy.new_scheduler(), ConditionProjector(4, 4), model.decoder.config)
    pipe = StableDiffusionPipeline(decoder.vae, None, None, unet, toy.new_scheduler(), None, None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    condition, null = torch.randn(4, 16, 96), torch.randn(4, 16, 96)
    latents = torch.randn(4, 4, 8, 8)
    return (seconds(lambda: decoder.decode(decoder.sample(condition, null, latents, 20, 3.0)), repeats),
            seconds(lambda: pipe(prompt_embeds=condition, negative_prompt_embeds=null, latents=latents, num_inference_steps=20,
                                 guidance_scale=3.0, output_type="pt", height=32, width=32), repeats))


PEERS = {"LLM, one pass of 512 tokens / transformers": llm_forward, "LLM, training step / transformers": llm_training_step,
         "LLM, 64 tokens decoded / transformers": llm_decode, "recording 64 query rows of 1,024 inputs / output_attentions, eager": recording,
         "recording 64 query rows of 1,024 inputs / the plain pass": recording_cost, "20 guided steps, 4 pictures / diffusers' pipeline": denoising}


def main() -> None:
    """Prints a line per comparison and writes all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed calls per entry; the median counts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"), help="default: %(default)s")
    options = parser.parse_args()
    results = {"threads": torch.get_num_threads(), "torch": torch.__version__, "ratios": {}, "seconds": {}}
    for name, compare in PEERS.items():
        ours, theirs = compare(options.repeats)
        results["ratios"][name] = round(ours / theirs, 3)
        print(f"{ours / theirs:6.2f}x  {name}  ({ours * 1e3:.1f} ms / {theirs * 1e3:.1f} ms)", flush=True)
    model = minidream.load("toy", device="cpu")
    prompt = "a large red circle left of a small blue square"
    results["seconds"]["one picture"] = round(seconds(lambda: model.dream(prompt), options.repeats), 3)
    results["seconds"]["each of a batch of 16"] = round(seconds(lambda: model.dream([prompt] * 16), options.repeats) / 16, 3)
    results["seconds"]["an attention trace"] = round(seconds(lambda: probe.dream_attention(model, prompt), options.repeats), 4)
    for name, value in results["seconds"].items():
        print(f"{value:6.3f} s  {name}, {results['threads']} threads")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(lambda path: path.write_text(json.dumps(results, indent=1) + "\n"), options.out)


if __name__ == "__main__":
    main()
