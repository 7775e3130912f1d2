"""A small causal transformer over feature vectors, with two ways through it that agree.

``forward`` sees a whole sequence under the banded mask: the training path and the reference.
``step`` appends tokens to a KV cache and answers for them alone: the streaming path. ``decode``
does so for one token of each of many sequences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist

import torch
from msgspec import Struct
from torch import Tensor, nn
from torch.nn import functional

from bot.kvcache import CacheSpec, WindowCache, cache_spec, merge_sink
from bot.model.attention import banded_attention, masked_attention, sink_token_attention
from bot.model.rotary import frequencies, phases, phases_at, rotate

STEP_TOKENS = 64
"""Tokens that ``step`` appends at once; more are taken in pieces, with the same result."""

_TILE = 8
"""Sequences that ``decode`` computes together, always so many: a matrix product's last bits depend
on its shape, so with one shape no answer depends on who else is in the batch."""


class TransformerConfig(Struct, frozen=True, kw_only=True):
    """The shape of a model. ``window`` counts the current token; ``sink_tokens`` first tokens of a
    sequence are seen beside it (the learned sink logits need none).

    ``return_scale`` [horizons] turns the heads' unit numbers into log returns; with
    ``volatility_scaled``, times the volatility that was known at the token.
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
    sink_tokens: int = 0
    horizons_ns: tuple[int, ...]
    return_scale: tuple[float, ...]
    volatility_scaled: bool = False
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

    def cache_spec(
        self,
        kind: str = "paged",
        *,
        block_size: int = 16,
        kv_cache_dtype: str = "int8",
        retention: str = "",
        retain: int = 0,
        model: str = "",
    ) -> CacheSpec:
        """The cache of a named kind that streams this model; see ``bot.kvcache.cache_spec``."""
        return cache_spec(
            kind,
            layers=self.layers,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            window=self.window,
            block_size=block_size,
            kv_cache_dtype=kv_cache_dtype,
            sinks=self.sink_tokens,
            step_tokens=STEP_TOKENS,
            retention=retention,
            retain=retain,
            model=model,
        )

    @property
    def reach(self) -> int:
        """Last inputs that an output depends on: each layer looks ``window - 1`` further back.
        With sink tokens it depends on their inputs too."""
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
        self.dropout = 0.0  # training's alone
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
        x = x + self._dropped(functional.linear(attended.flatten(-2), self.out))
        up = functional.linear(_norm(x, self.mlp_norm), self.up)
        down = functional.linear(functional.gelu(up, approximate="tanh"), self.down)
        return x + self._dropped(down)

    def _dropped(self, x: Tensor) -> Tensor:
        if self.training and self.dropout:
            return functional.dropout(x, self.dropout)
        return x


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
        through_values: Callable[[Tensor], Tensor] | None = None,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Raw heads [..., T, outputs] for features ``x`` [..., T, F], each token from its window.

        ``through`` is applied to every key and value, for instance a quantizer's round trip, and
        ``through_values`` to the values in its place. ``visible`` [T, T] replaces the band.
        """
        tokens, sinks = x.shape[-2], self.config.sink_tokens
        if tokens > self.config.window and not sinks and through is None and visible is None:
            return self.read_out(self.trunk(x, first_position=first_position))
        cos, sin = self._phases(first_position, x)
        farthest = sinks + self.config.window - 1
        nearer = phases_at(self.turns, [min(farthest - t, 0) for t in range(tokens)], x.dtype)
        index = torch.arange(tokens, device=x.device)
        age = index.unsqueeze(1) - index
        hidden = (age < 0) | ((age >= self.config.window) & (index >= sinks))
        if visible is not None:
            hidden = ~visible
        x = functional.linear(x, self.embed, self.embed_bias)
        for block in self.typed_blocks():
            q, k, v = block.project(x, cos, sin)
            if through is not None:
                k, v = through(k), (through_values or through)(v)
            if sinks:
                q_sink = rotate(q, *nearer)
                attended = sink_token_attention(q, q_sink, k, v, block.sink, hidden, sinks)
            else:
                attended = masked_attention(q, k, v, block.sink, hidden)
            x = block.finish(x, attended)
        return self.read_out(x)

    def trunk(self, x: Tensor, *, first_position: int = 0) -> Tensor:
        """What the heads read, [..., T, width], for any ``x`` [..., T, F] longer than a window.

        It may run under autocast: the residual stream stays in the type of ``x``.
        """
        cos, sin = self._phases(first_position, x)
        x = functional.linear(x, self.embed, self.embed_bias).to(x.dtype)
        for block in self.typed_blocks():
            q, k, v = block.project(x, cos, sin)
            attended = banded_attention(q, k, v, block.sink, self.config.window)
            x = block.finish(x, attended.view(*x.shape[:-1], *attended.shape[-2:]))
        return x

    def read_out(self, x: Tensor) -> Tensor:
        """Raw heads [..., outputs] from what the last block made [..., width]."""
        return functional.linear(_norm(x, self.final_norm), self.head, self.head_bias)

    def step(self, x: Tensor, cache: WindowCache) -> Tensor:
        """Raw heads [T, outputs] for the next T tokens ``x`` [T, F] of the cached sequence."""
        return torch.cat([self._step(part, cache) for part in torch.split(x, STEP_TOKENS)])

    def prefill(self, x: Tensor, cache: WindowCache) -> Tensor:
        """``step`` for the first tokens of an empty sequence, but for a beginning that is known to
        a prefix cache: heads [<= T, outputs] of the last tokens, at least of the last one."""
        return self.step(x[cache.adopt(x) :], cache)

    def decode(self, x: Tensor, caches: Sequence[WindowCache]) -> Tensor:
        """Raw heads [B, outputs] for one next token ``x`` [B, F] of each of B sequences.

        Row b is the same to the last bit whatever the other sequences and their order. When one
        cannot take its token, the tile of up to 8 that it is in goes back to before the step.
        """
        heads = []
        for first in range(0, len(caches), _TILE):
            tile = slice(first, first + _TILE)
            try:
                heads.append(self._decode(x[tile], caches[tile]))
            except BaseException:
                for cache in caches[tile]:
                    cache.abandon_step()
                raise
        return torch.cat(heads)

    def outputs(self, raw: Tensor) -> Outputs:
        """Raw heads [..., outputs] split by meaning."""
        by_horizon = raw.view(*raw.shape[:-1], len(self.config.horizons_ns), -1)
        first, rest = by_horizon[..., 2:3], by_horizon[..., 3:]
        rising = torch.cat((first, functional.softplus(rest)), dim=-1).cumsum(-1)
        return Outputs(mean=by_horizon[..., 0], up_logit=by_horizon[..., 1], quantiles=rising)

    def _step(self, x: Tensor, cache: WindowCache) -> Tensor:
        positions = range(cache.position, cache.position + x.shape[0])
        rope = phases_at(self.turns, positions, x.dtype)
        nearer = self._nearer([cache], x.shape[0], x.dtype)
        cache.tag(x)
        x = functional.linear(x, self.embed, self.embed_bias)
        for layer, block in enumerate(self.typed_blocks()):
            q, k, v = block.project(x, *rope)
            cache.append(layer, k, v)
            out, lse = cache.attend(layer, q, rotate(q, *nearer) if nearer else None)
            x = block.finish(x, merge_sink(out, lse, block.sink))
        return self.read_out(x)

    def _decode(self, x: Tensor, caches: Sequence[WindowCache]) -> Tensor:
        rows = len(caches)
        rope = phases_at(self.turns, [cache.position for cache in caches], x.dtype)
        rope = (_padded(rope[0]), _padded(rope[1]))
        nearer = self._nearer(caches, 1, x.dtype)
        for cache, row in zip(caches, torch.split(x, 1), strict=True):
            cache.tag(row)
        x = functional.linear(_padded(x), self.embed, self.embed_bias)
        for layer, block in enumerate(self.typed_blocks()):
            q, k, v = block.project(x, *rope)
            q_sink = rotate(q[:rows], *nearer) if nearer else None
            states = []
            for index, cache in enumerate(caches):
                one = slice(index, index + 1)
                cache.append(layer, k[one], v[one])
                seen = None if q_sink is None else q_sink[one]
                states.append(cache.attend(layer, q[one], seen))
            out, lse = (_padded(torch.cat(part)) for part in zip(*states, strict=True))
            x = block.finish(x, merge_sink(out, lse, block.sink))
        return self.read_out(x)[:rows]

    def _nearer(
        self, caches: Sequence[WindowCache], tokens: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor] | None:
        """Phases from where queries are to where they see the sink tokens from; None without."""
        if not self.config.sink_tokens:
            return None
        turns = []
        for cache in caches:
            targets = cache.sink_positions(tokens)
            turns += [target - cache.position - i for i, target in enumerate(targets)]
        return phases_at(self.turns, turns, dtype)

    def _phases(self, first_position: int, x: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = phases(self.turns, first_position, x.shape[-2], x.dtype)
        return cos.to(x.device), sin.to(x.device)

    def typed_blocks(self) -> list[Block]:
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


def _padded(x: Tensor) -> Tensor:
    """Rows of zeros up to a whole tile."""
    missing = _TILE - x.shape[0]
    return torch.cat((x, x.new_zeros(missing, *x.shape[1:]))) if missing else x
