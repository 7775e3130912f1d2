"""The ways to run a model, which agree: torch everywhere, native where it was built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor

from bot.kvcache import CacheSpec, WindowCache
from bot.kvcache.native import NativeUnavailable, available
from bot.kvcache.native.step import unreadable
from bot.model.native import NativeDecoder, WeightDtype, rounded
from bot.model.transformer import CausalTransformer

Decode = Literal["auto", "native", "torch"]


class Execution(Protocol):
    """What a stream needs of a model; see ``CausalTransformer`` for the meaning of each."""

    def step(self, x: Tensor, cache: WindowCache) -> Tensor: ...

    def prefill(self, x: Tensor, cache: WindowCache) -> Tensor: ...

    def decode(self, x: Tensor, caches: Sequence[WindowCache]) -> Tensor: ...


def execution(
    model: CausalTransformer,
    spec: CacheSpec,
    *,
    decode: Decode,
    weight_dtype: WeightDtype,
    threads: int,
) -> Execution:
    """The model as it is to be run on caches of ``spec``.

    ``auto`` is native where the extension was built and reads such a cache, else torch. Raises
    NativeUnavailable for ``native`` elsewhere.
    """
    why = unreadable(spec)
    if decode == "native" and why:
        raise NativeUnavailable(
            f"models.decode is native, but the native decoder cannot read {why}: change the cache "
            "or set models.decode to auto"
        )
    if decode == "torch" or (decode == "auto" and (why or not available())):
        return rounded(model, weight_dtype)
    return NativeDecoder(model, weight_dtype, threads)
