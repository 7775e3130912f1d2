"""Whether a model still sees what it learned from: the population stability index of its tokens.

The card keeps the deciles of every feature over the training rows. The index of a feature is the
sum over the ten bins of (now - then) * ln(now / then), shares of tokens; 0.1 is little, 0.25 much
(Siddiqi, Credit Risk Scorecards, 2006). A feature of few values fills fewer bins: shares are taken
of the bins as they came out in training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

_BINS = 10
_LEAST_SHARE = 1e-3
"""An empty bin counts as that much, or one rare value would decide."""


class InputShares(Struct, frozen=True, forbid_unknown_fields=True):
    """Per feature: the edges between bins [9], and each bin's share of the training rows [10]."""

    edges: list[list[float]]
    shares: list[list[float]]


def input_shares(tokens: NDArray[np.float32]) -> InputShares:
    """What the card keeps of the training tokens [N, F]."""
    edges = np.quantile(tokens, np.arange(1, _BINS) / _BINS, axis=0).T.astype(np.float32)
    counts = _counts(tokens, edges)
    shares = counts / len(tokens)
    return InputShares(
        [[float(f"{edge:.7g}") for edge in row] for row in edges],
        [[round(float(share), 5) for share in row] for row in shares],
    )


class InputDrift:
    """Holds the last tokens of one symbol against the card; ``index`` is what is told."""

    __slots__ = ("_edges", "_kept", "_shares", "_window", "index")

    def __init__(self, expected: InputShares, *, window: int = 2_000) -> None:
        self._edges = np.array(expected.edges, dtype=np.float32)
        self._shares = np.array(expected.shares)
        self._window = window
        self._kept: list[NDArray[np.int64]] = []
        self.index: float | None = None
        """The mean over features, None before a quarter of a window is full."""

    def add(self, tokens: NDArray[np.float32]) -> None:
        """Take in a block of tokens [n, F]; give blocks of one size."""
        self._kept.append(_counts(tokens, self._edges))
        most = max(self._window // len(tokens), 1)
        del self._kept[:-most]
        if 4 * len(self._kept) >= most:
            self.index = float(stability_indices(np.sum(self._kept, axis=0), self._shares).mean())


def stability_indices(
    counts: NDArray[np.int64], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The index of each feature [F], of counts and shares [F, 10]."""
    now = np.maximum(counts / counts.sum(axis=1, keepdims=True), _LEAST_SHARE)
    then = np.maximum(expected, _LEAST_SHARE)
    found: NDArray[np.float64] = ((now - then) * np.log(now / then)).sum(axis=1)
    return found


def _counts(
    tokens: NDArray[np.float32], edges: NDArray[np.float32] | Sequence[Sequence[float]]
) -> NDArray[np.int64]:
    """Tokens a bin [F, 10]: a value on an edge is below it."""
    bins = (tokens[:, :, None] > np.asarray(edges)[None]).sum(axis=2)
    features = tokens.shape[1]
    flat = bins + _BINS * np.arange(features)
    counts = np.bincount(flat.ravel(), minlength=_BINS * features)
    return counts.reshape(features, _BINS).astype(np.int64)
