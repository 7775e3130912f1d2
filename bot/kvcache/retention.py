"""Which blocks a selective cache keeps: what each token was worth to those who could see it.

Attention is counted against exposure. Raw sums grow with age and freeze on the first tokens (the
flaw of plain H2O scores: Zhang et al., 2023; cf. ObservedAttentionPress in NVIDIA's kvpress).
Every observation is a weight in shares of an even look: 1 if the query had looked at all it saw
alike. So under even attention every token scores 1, whatever its age.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bot.kvcache.layout import CacheSpec
from bot.kvcache.segments import Segment

_EVICTED_SHARE = 8  # a batch is an eighth of what is kept
_RECENT_SHARE = 4  # the newest quarter is not judged yet


class Retention:
    """Scores of the tokens that one sequence holds, and the choice of blocks to drop.

    ``attention_score``: mean share over all heads, layers and queries that saw the token.
    ``entropy``: the same mean, each query weighted by its focus, 1 - entropy / log(keys): a query
    that looks everywhere says nothing about what to keep. ``recency``: the newest.
    ``hybrid``: the mean of a block's ranks by attention_score and by recency.
    """

    __slots__ = ("_before", "_exposure", "_mass", "_positions", "_spec")

    def __init__(self, spec: CacheSpec) -> None:
        self._spec = spec
        self._positions = torch.zeros(0, dtype=torch.int64)
        self._mass = torch.zeros(0, dtype=torch.float64)
        self._exposure = torch.zeros(0, dtype=torch.float64)
        self._before = (self._positions, self._mass, self._exposure)

    def fork(self) -> Retention:
        twin = Retention(self._spec)
        twin._positions, twin._mass, twin._exposure = self.state()
        return twin

    def state(self) -> tuple[Tensor, Tensor, Tensor]:
        """Copies of positions, attention and exposure, each [held]; for saving."""
        return self._positions.clone(), self._mass.clone(), self._exposure.clone()

    def restore(self, positions: Tensor, mass: Tensor, exposure: Tensor) -> None:
        self._positions, self._mass, self._exposure = positions, mass, exposure

    def open(self, positions: Tensor) -> None:
        """Carry the counts over to the ascending ``positions`` [S] that the step reads."""
        self._before = (self._positions, self._mass, self._exposure)
        mass = torch.zeros(len(positions), dtype=torch.float64)
        exposure = torch.zeros_like(mass)
        if len(self._positions):
            at = torch.searchsorted(self._positions, positions).clamp_max(len(self._positions) - 1)
            known = self._positions[at] == positions
            mass[known] = self._mass[at[known]]
            exposure[known] = self._exposure[at[known]]
        self._positions, self._mass, self._exposure = positions, mass, exposure

    def undo(self) -> None:
        """Back to before the last ``open``: its step did not happen."""
        self._positions, self._mass, self._exposure = self._before

    def observe(self, weights: Tensor, segment: Segment) -> None:
        """Count one layer's attention ``weights`` [Hkv, H / Hkv, T, S] over ``segment``."""
        if self._spec.retention == "recency":
            return
        heads = weights.shape[0] * weights.shape[1]
        visible = segment.visible
        seen = torch.ones(weights.shape[2:], dtype=torch.float64)
        if visible is not None:
            seen = visible.to(torch.float64)
        keys = seen.sum(1, keepdim=True)  # [T, 1]
        if self._spec.retention == "entropy":
            spread = torch.special.entr(weights).sum(-1, keepdim=True).double()
            focus = (1 - spread / keys.clamp_min(2).log()).clamp_(0, 1)
            mass = (weights * focus).sum((0, 1)).double()
            exposure = focus.sum((0, 1)) * seen
        else:
            mass = weights.sum((0, 1)).double()
            exposure = heads * seen
        self._mass += (mass * keys).sum(0)
        self._exposure += exposure.sum(0)

    def choose(self, numbers: list[int]) -> list[int]:
        """Blocks to drop of the ascending ``numbers`` that are held: none, or a batch."""
        spec = self._spec
        excess = len(numbers) - spec.retain_blocks
        if excess <= 0:
            return []
        judged = numbers[: len(numbers) - max(1, spec.retain_blocks // _RECENT_SHARE)]
        count = excess - 1 + max(1, spec.retain_blocks // _EVICTED_SHARE)
        if spec.retention == "recency":
            return judged[:count]
        scores = self._block_scores(judged)
        if spec.retention == "hybrid":
            ranks = torch.argsort(torch.argsort(scores, stable=True))
            scores = (ranks + torch.arange(len(judged))).double()
        lowest = torch.argsort(scores, stable=True)[:count]  # of equals, the oldest
        return sorted(judged[index] for index in lowest.tolist())

    def _block_scores(self, numbers: list[int]) -> Tensor:
        """The mean score of each block's tokens; one that nobody saw yet scores nothing."""
        block_of = self._positions // self._spec.block_size
        scores = self._mass / self._exposure.clamp_min(math.ulp(0.0))
        at = torch.searchsorted(torch.tensor(numbers), block_of)
        inside = at < len(numbers)
        inside[inside.clone()] = torch.tensor(numbers)[at[inside]] == block_of[inside]
        sums = torch.zeros(len(numbers), dtype=torch.float64)
        counts = torch.zeros_like(sums)
        sums.index_add_(0, at[inside], scores[inside])
        counts.index_add_(0, at[inside], torch.ones_like(scores[inside]))
        return sums / counts.clamp_min(1)
