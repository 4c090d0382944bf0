"""DreamLLM in one file: what notebooks 01 to 07 built, put together. It needs nothing of minidream.

What the paper takes pretrained is given: CLIP's vision tower, the VAE and the U-Net.
"""

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import nn
from torch.nn import functional as F

# 02: the language model


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, hidden):
        return self.weight * hidden / (hidden.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()


def rotate(heads):
    """Rotates the pairs of numbers of each head by angles that grow with the position."""
    tokens, width = heads.shape[-2:]
    speeds = 10000 ** (-torch.arange(0, width, 2, device=heads.device) / width)
    angles = einsum(
        torch.arange(tokens, device=heads.device), speeds, "tokens, pairs -> tokens pairs"
    )
    first, second = heads.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, dim, heads, shared):
        super().__init__()
        self.width, self.group = dim // heads, heads // shared
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, shared * self.width, bias=False)
        self.v_proj = nn.Linear(dim, shared * self.width, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, hidden):
        split = "batch tokens (heads width) -> batch heads tokens width"
        query = rotate(rearrange(self.q_proj(hidden), split, width=self.width))
        key = rotate(rearrange(self.k_proj(hidden), split, width=self.width))
        value = rearrange(self.v_proj(hidden), split, width=self.width)
        share = "batch shared tokens width -> batch (shared group) tokens width"
        key, value = (repeat(each, share, group=self.group) for each in (key, value))
        scores = einsum(
            query,
            key,
            "batch heads tokens width, batch heads inputs width -> batch heads tokens inputs",
        )
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=hidden.device).triu(1)
        weights = (scores / self.width**0.5).masked_fill(future, -torch.inf).softmax(dim=-1)
        mixed = einsum(
            weights,
            value,
            "batch heads tokens inputs, batch heads inputs width -> batch heads tokens width",
        )
        return self.o_proj(
            rearrange(mixed, "batch heads tokens width -> batch tokens (heads width)")
        )


class SwiGLU(nn.Module):
    def __init__(self, dim, inner):
        super().__init__()
        self.gate_proj = nn.Linear(dim, inner, bias=False)
        self.up_proj = nn.Linear(dim, inner, bias=False)
        self.down_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, hidden):
        return self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class Layer(nn.Module):
    def __init__(self, dim, heads, shared, inner):
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(dim), Attention(dim, heads, shared)
        self.post_attention_layernorm, self.mlp = RMSNorm(dim), SwiGLU(dim, inner)

    def forward(self, hidden):
        hidden = hidden + self.self_attn(self.input_layernorm(hidden))
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class LLM(nn.Module):
    def __init__(self, vocabulary, dim=192, layers=6, heads=6, shared=3, inner=512):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, dim)
        self.layers = nn.ModuleList(Layer(dim, heads, shared, inner) for _ in range(layers))
        self.norm, self.lm_head = RMSNorm(dim), nn.Linear(dim, vocabulary, bias=False)

    def forward(self, embeddings):
        for layer in self.layers:
            embeddings = layer(embeddings)
        return self.norm(embeddings)


# 03, 05 and 06: one sequence of words, patches and dream queries


class DreamLLM(nn.Module):
    def __init__(self, llm, tower, vae, unet, alphas_cumprod, queries=16):
        super().__init__()
        dim = llm.embed_tokens.embedding_dim
        self.llm, self.tower, self.vae, self.unet = llm, tower, vae, unet
        self.alphas_cumprod = alphas_cumprod
        self.see = nn.Linear(tower.config.hidden_size, dim)
        self.dream_queries = nn.Parameter(torch.randn(queries, dim))
        self.condition = nn.Linear(dim, unet.config.cross_attention_dim, bias=False)
        for frozen in (tower, vae, unet):
            frozen.requires_grad_(False)

    def patches(self, pixels):
        """CLIP's pixels, (3, height, width), to inputs of the language model, (patches, dim)."""
        seen = self.tower(pixel_values=pixels[None], output_hidden_states=True)
        return self.see(seen.hidden_states[-2][0, 1:])

    def sequence(self, items):
        """Embeddings (tokens, dim), what each position should predict, and where queries begin.

        items: ("words", ids, learned), ("read", pixels) or ("dream",), in order. Nothing (-100)
        has to be predicted from a position whose next token is not learned.
        """
        embeddings, labels, dreams = [], [], []
        for kind, *content in items:
            if kind == "words":
                ids, learned = content
                embeddings.append(self.llm.embed_tokens(torch.tensor(ids, dtype=torch.long)))
                labels += ids if learned else [-100] * len(ids)
                continue
            if kind == "dream":
                dreams.append(len(labels))
            embeddings.append(self.dream_queries if kind == "dream" else self.patches(*content))
            labels += [-100] * len(embeddings[-1])
        return torch.cat(embeddings), torch.tensor(labels[1:] + [-100]), dreams

    def states(self, items):
        """Final states of a sequence, (tokens, dim), its labels, and those at its dream queries."""
        embeddings, labels, dreams = self.sequence(items)
        hidden = self.llm(embeddings[None])[0]
        return hidden, labels, [hidden[start : start + len(self.dream_queries)] for start in dreams]

    # 04 and 05: the diffusion model, and the only teacher of the queries

    def predict(self, noisy, timesteps, condition):
        """The noise in latents; two more channels say where each cell is."""
        batch, _, height, width = noisy.shape
        across = repeat(torch.linspace(-1, 1, width), "w -> b 1 h w", b=batch, h=height)
        down = repeat(torch.linspace(-1, 1, height), "h -> b 1 h w", b=batch, w=width)
        return self.unet(torch.cat([noisy, across, down], dim=1), timesteps, condition).sample

    def denoising_loss(self, latents, states, noise, timesteps):
        """The squared error of the predicted noise, weighted by min-SNR with gamma 5."""
        alpha = rearrange(self.alphas_cumprod[timesteps], "batch -> batch 1 1 1")
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        error = (self.predict(noisy, timesteps, self.condition(states)) - noise).square()
        snr = self.alphas_cumprod[timesteps] / (1 - self.alphas_cumprod[timesteps])
        error = reduce(error, "batch channels height width -> batch", "mean")
        return (error * snr.clamp(max=5) / snr).mean()

    def language_loss(self, hidden, labels):
        """Cross entropy of the next token, where it is learned."""
        return F.cross_entropy(self.llm.lm_head(hidden), labels, ignore_index=-100)

    @torch.no_grad()
    def dream(self, items, empty, noise, steps=20, guidance=5.0):
        """Paints what a prompt asks for: DDIM with guidance. Latents (channels, height, width)."""
        both = [self.states(each)[2][-1] for each in (empty, items)]
        condition, latents = self.condition(torch.stack(both)), noise[None]
        for timestep in range(999, -1, -1000 // steps):
            before = max(timestep - 1000 // steps, 0)
            alpha, next_alpha = self.alphas_cumprod[timestep], self.alphas_cumprod[before]
            null, conditional = self.predict(
                latents.repeat(2, 1, 1, 1), torch.tensor([timestep] * 2), condition
            ).chunk(2)
            predicted = null + guidance * (conditional - null)
            clean = (latents - (1 - alpha).sqrt() * predicted) / alpha.sqrt()
            latents = next_alpha.sqrt() * clean + (1 - next_alpha).sqrt() * predicted
        return latents[0]

    @torch.no_grad()
    def answer(self, items, end, most=32):
        """The likeliest words after a prompt, as ids, up to the id `end`."""
        written = []
        while len(written) < most:
            hidden, *_ = self.states([*items, ("words", written, False)])
            written.append(self.llm.lm_head(hidden[-1]).argmax().item())
            if written[-1] == end:
                break
        return written
