"""The same step through transformers: a random Llama of the same size and its caches.

Only where the packages are: ``transformers``, and ``hqq`` for the quantized cache.
"""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from bot.model.transformer import CausalTransformer
from bot.research.bench.decode_paths import Cell, Path

_PREFILL_TOKENS = 512


def installed() -> bool:
    return importlib.util.find_spec("transformers") is not None


class Peers:
    """Builds the peers of one cell after another; compiling them has a budget of its own."""

    def __init__(self, compile_budget_s: float, say: Callable[[str], None]) -> None:
        self._compile_budget_s = compile_budget_s
        self._say = say

    def paths(self, cell: Cell, model: CausalTransformer) -> Iterator[Path]:
        """The peers for a batch of one. Their error is against their own exact cache."""
        import transformers  # noqa: PLC0415 - an optional extra

        llama = _llama(transformers, cell, model)
        generator = torch.Generator().manual_seed(12)
        past = torch.randn(1, cell.context - 1, model.config.width, generator=generator)
        token = torch.randn(1, 1, model.config.width, generator=generator)
        weights = sum(weight.nbytes for weight in llama.parameters())
        numbers = (
            2 * model.config.layers * cell.context * model.config.heads * model.config.head_dim
        )
        exact = weights + 4 * numbers
        dynamic = _dynamic(transformers, llama, past, token)
        expected = dynamic()
        yield Path("hf_dynamic", "float32", "float32", exact, dynamic, rel_error=0.0)
        if self._compile_budget_s > 0:
            began = time.monotonic()
            static = _static(transformers, llama, cell, past, token)
            error = _relative(static(), expected)
            self._compile_budget_s -= time.monotonic() - began
            yield Path("hf_static_compiled", "float32", "float32", exact, static, rel_error=error)
        else:
            self._say(f"hf_static_compiled: no time left to compile {cell}")
        if importlib.util.find_spec("hqq") is not None:
            yield _quantized(transformers, llama, past, token, expected, weights + numbers)


def _llama(transformers: Any, cell: Cell, model: CausalTransformer) -> Any:
    c = model.config
    config = transformers.LlamaConfig(
        vocab_size=8,
        hidden_size=c.width,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        num_key_value_heads=c.kv_heads,
        head_dim=c.head_dim,
        intermediate_size=c.hidden * 2 // 3,  # theirs has three matrices, ours two
        max_position_embeddings=cell.context + 64,
    )
    llama: Any = transformers.LlamaModel(config)
    return llama.eval().requires_grad_(requires_grad=False)


def _prefill(llama: Any, past: Tensor, cache: Any) -> Any:
    for part in torch.split(past, _PREFILL_TOKENS, dim=1):
        llama(inputs_embeds=part, past_key_values=cache, use_cache=True)
    return cache


def _dynamic(transformers: Any, llama: Any, past: Tensor, token: Tensor) -> Callable[[], Tensor]:
    cache = _prefill(llama, past, transformers.DynamicCache(config=llama.config))

    def step() -> Tensor:
        out = llama(inputs_embeds=token, past_key_values=cache, use_cache=True)
        cache.crop(-1)
        hidden: Tensor = out.last_hidden_state[:, -1]
        return hidden

    return step


def _static(
    transformers: Any, llama: Any, cell: Cell, past: Tensor, token: Tensor
) -> Callable[[], Tensor]:
    cache = transformers.StaticCache(config=llama.config, max_cache_len=cell.context)
    torch.compiler.reset()  # every cell is compiled for its own shapes
    compiled: Any = torch.compile(llama, dynamic=False)
    _prefill(llama, past, cache)
    where = torch.tensor([[past.shape[1]]])
    lengths = [layer.cumulative_length for layer in cache.layers]
    kept = [length.clone() for length in lengths]

    def step() -> Tensor:
        for length, old in zip(lengths, kept, strict=True):
            length.copy_(old)
        out: Any = compiled(
            inputs_embeds=token, past_key_values=cache, position_ids=where, use_cache=True
        )
        hidden: Tensor = out.last_hidden_state[:, -1]
        return hidden

    step()
    return step


def _quantized(
    transformers: Any, llama: Any, past: Tensor, token: Tensor, expected: Tensor, nbytes: int
) -> Path:
    cache = transformers.QuantizedCache("hqq", llama.config, nbits=8)
    held = [_prefill(llama, past, cache)]
    kept = copy.deepcopy(cache)

    def prepare() -> None:
        held[0] = copy.deepcopy(kept)

    def step() -> Tensor:
        out = llama(inputs_embeds=token, past_key_values=held[0], use_cache=True)
        hidden: Tensor = out.last_hidden_state[:, -1]
        return hidden

    error = _relative(step(), expected)
    return Path("hf_quantized", "float32", "int8", nbytes, step, prepare, rel_error=error)


def _relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())
