"""A small causal transformer over feature vectors, with two ways through it that agree.

``forward`` sees a whole sequence under the banded mask: the training path and the reference.
``step`` appends tokens to a KV cache and answers for them alone: the streaming path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import NormalDist

import torch
from msgspec import Struct
from torch import Tensor, nn
from torch.nn import functional

from bot.kvcache import CacheSpec, WindowCache, merge_sink
from bot.model.rotary import frequencies, phases, rotate

STEP_TOKENS = 64
"""Tokens that ``step`` appends at once; more are taken in pieces, with the same result."""


class TransformerConfig(Struct, frozen=True, kw_only=True):
    """The shape of a model. ``window`` counts the current token.

    ``return_scale`` [horizons] turns the heads' unit numbers into log returns.
    """

    features: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 32
    hidden: int = 512
    window: int = 256
    rope_base: float = 10_000.0
    horizons_ns: tuple[int, ...]
    return_scale: tuple[float, ...]
    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        levels = self.quantiles
        if not all(0 < level < 1 for level in levels) or sorted(set(levels)) != list(levels):
            raise ValueError(f"quantiles must rise strictly within (0, 1), got {levels}")
        if len(self.return_scale) != len(self.horizons_ns):
            raise ValueError(
                f"{len(self.return_scale)} return scales for {len(self.horizons_ns)} horizons"
            )

    def cache_spec(self, *, block_size: int = 16, kv_cache_dtype: str = "int8") -> CacheSpec:
        """The cache that streams this model."""
        return CacheSpec(
            layers=self.layers,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            window=self.window,
            block_size=block_size,
            kv_cache_dtype=kv_cache_dtype,
        )

    @property
    def reach(self) -> int:
        """Inputs that an output depends on: each layer looks ``window - 1`` further back."""
        return self.layers * (self.window - 1) + 1


class Outputs(Struct, frozen=True):
    """Heads for every token and horizon, in units of ``return_scale``."""

    mean: Tensor  # [..., horizons]
    up_logit: Tensor  # [..., horizons]
    quantiles: Tensor  # [..., horizons, quantiles], never crossing


class Block(nn.Module):
    """Pre-norm attention and MLP. Weights are [out, in]."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, dim = config.width, config.head_dim
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, dim
        qkv = (config.heads + 2 * config.kv_heads) * dim
        self.attention_norm = nn.Parameter(torch.ones(width))
        self.qkv = nn.Parameter(torch.empty(qkv, width))
        self.q_norm = nn.Parameter(torch.ones(dim))
        self.k_norm = nn.Parameter(torch.ones(dim))
        self.sink = nn.Parameter(torch.zeros(config.heads))
        self.out = nn.Parameter(torch.empty(width, config.heads * dim))
        self.mlp_norm = nn.Parameter(torch.ones(width))
        self.up = nn.Parameter(torch.empty(config.hidden, width))
        self.down = nn.Parameter(torch.empty(width, config.hidden))

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [..., T, H, D], keys and values [..., T, Hkv, D]; normed, then rotated."""
        heads = functional.linear(_norm(x, self.attention_norm), self.qkv)
        heads = heads.view(*x.shape[:-1], -1, self.head_dim)
        q, k, v = torch.split(heads, [self.heads, self.kv_heads, self.kv_heads], dim=-2)
        # QK-norm bounds every score and leaves keys without outlier channels, which is what
        # makes them safe to quantize (Henry et al., Query-Key Normalization, 2020)
        q, k = _norm(q, self.q_norm), _norm(k, self.k_norm)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Residuals: attention's output [..., T, H, D], then the MLP."""
        x = x + functional.linear(attended.flatten(-2), self.out)
        up = functional.linear(_norm(x, self.mlp_norm), self.up)
        return x + functional.linear(functional.gelu(up, approximate="tanh"), self.down)


class CausalTransformer(nn.Module):
    """RMSNorm, RoPE, QK-norm, a learned sink logit per head, GELU MLP, heads per horizon."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        outputs = len(config.horizons_ns) * (2 + len(config.quantiles))
        self.embed = nn.Parameter(torch.empty(config.width, config.features))
        self.embed_bias = nn.Parameter(torch.zeros(config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.Parameter(torch.ones(config.width))
        self.head = nn.Parameter(torch.empty(outputs, config.width))
        self.head_bias = nn.Parameter(torch.zeros(outputs))
        self.turns = frequencies(config.head_dim, config.rope_base)

    def forward(
        self,
        x: Tensor,
        *,
        first_position: int = 0,
        through: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Raw heads [..., T, outputs] for features ``x`` [..., T, F], each token from its window.

        ``through`` is applied to every key and value, for instance a quantizer's round trip.
        """
        tokens = x.shape[-2]
        cos, sin = phases(self.turns, first_position, tokens, x.dtype)
        index = torch.arange(tokens)
        age = index.unsqueeze(1) - index
        hidden = (age < 0) | (age >= self.config.window)
        x = functional.linear(x, self.embed, self.embed_bias)
        for block in self._typed_blocks():
            q, k, v = block.project(x, cos, sin)
            if through is not None:
                k, v = through(k), through(v)
            x = block.finish(x, _banded_attention(q, k, v, block.sink, hidden))
        return self._heads(x)

    def step(self, x: Tensor, cache: WindowCache) -> Tensor:
        """Raw heads [T, outputs] for the next T tokens ``x`` [T, F] of the cached sequence."""
        return torch.cat([self._step(part, cache) for part in torch.split(x, STEP_TOKENS)])

    def outputs(self, raw: Tensor) -> Outputs:
        """Raw heads [..., outputs] split by meaning."""
        by_horizon = raw.view(*raw.shape[:-1], len(self.config.horizons_ns), -1)
        first, rest = by_horizon[..., 2:3], by_horizon[..., 3:]
        rising = torch.cat((first, functional.softplus(rest)), dim=-1).cumsum(-1)
        return Outputs(mean=by_horizon[..., 0], up_logit=by_horizon[..., 1], quantiles=rising)

    def _step(self, x: Tensor, cache: WindowCache) -> Tensor:
        cos, sin = phases(self.turns, cache.position, x.shape[0], x.dtype)
        x = functional.linear(x, self.embed, self.embed_bias)
        for layer, block in enumerate(self._typed_blocks()):
            q, k, v = block.project(x, cos, sin)
            cache.append(layer, k, v)
            out, lse = cache.attend(layer, q)
            x = block.finish(x, merge_sink(out, lse, block.sink))
        return self._heads(x)

    def _heads(self, x: Tensor) -> Tensor:
        return functional.linear(_norm(x, self.final_norm), self.head, self.head_bias)

    def _typed_blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]


def initialize(model: CausalTransformer, seed: int) -> None:
    """Fill the weights from ``seed`` alone; the global generator is not touched.

    The heads start at a normal distribution of one ``return_scale``, up as likely as down.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = 1 / math.sqrt(2 * model.config.layers)
    gains = {"out": depth, "down": depth, "head": 0.1}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                gain = gains.get(name.rpartition(".")[2], 1.0)
                weight.normal_(0, gain / math.sqrt(weight.shape[1]), generator=generator)
        model.head_bias.copy_(torch.tensor(_normal_bias(model.config)))


def _normal_bias(config: TransformerConfig) -> list[float]:
    """Head biases whose quantiles are the standard normal's: the inverse of ``outputs``."""
    levels = [NormalDist().inv_cdf(level) for level in config.quantiles]
    steps = [math.log(math.expm1(high - low)) for low, high in pairwise(levels)]
    return [0.0, 0.0, *levels[:1], *steps] * len(config.horizons_ns)


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm over the last dimension (Zhang and Sennrich, 2019)."""
    return functional.rms_norm(x, (x.shape[-1],), weight, eps=1e-6)


def _banded_attention(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, hidden: Tensor) -> Tensor:
    """Softmax over [scores, sink] with the sink's column dropped: [..., T, H, D]."""
    group = q.shape[-2] // k.shape[-2]
    k, v = k.repeat_interleave(group, -2), v.repeat_interleave(group, -2)
    scores = torch.einsum("...qhd,...khd->...hqk", q, k) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(hidden, -torch.inf)
    column = sink[:, None, None].expand(*scores.shape[:-1], 1)
    weights = torch.cat((scores, column), dim=-1).softmax(-1)[..., :-1]
    return torch.einsum("...hqk,...khd->...qhd", weights, v)
