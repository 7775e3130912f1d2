"""What trees read of a book: a few lags and short means of the tokens, upright and upside down.

The tokens alone are poor inputs for trees: what tells the next tenth of a second beside the
imbalance is how the two best levels have changed within the last few updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bot.model.dataset import Dataset
from bot.model.intervals import Floats
from bot.model.tokens import BOOK_LEVELS, mirror_of

_LEVELS = 3
_LAGS = (1, 2, 4)  # updates
_HALF_LIVES_S = (0.1, 0.5)
_LEAST_SIZE = 1e-3  # of a token's size unit, beside which no level is thinner
_BID_SIZE, _ASK_SIZE, _SCALARS = BOOK_LEVELS, 3 * BOOK_LEVELS, 4 * BOOK_LEVELS
_MOVE, _IMBALANCE_5, _FLOW, _BUYS, _SELLS = (_SCALARS + at for at in (1, 4, 6, 7, 8))


class BookInputs(Struct, frozen=True):
    """Inputs [N, K] of each row, those of its mirror image, and the log [N] of the best bid's size
    over the best ask's, which ranks as the imbalance of the best level does."""

    upright: NDArray[np.float32]
    mirrored: NDArray[np.float32]
    lean: Floats


def book_inputs(data: Dataset) -> BookInputs:
    """Of every row, from its own segment's past alone."""
    places, signs = mirror_of(data.token_kind)
    turned = data.tokens[:, list(places)] * np.array(signs, dtype=np.float32)
    upright, mirrored = (np.stack(_inputs(x, data), axis=1) for x in (data.tokens, turned))
    return BookInputs(
        upright.astype(np.float32), mirrored.astype(np.float32), _lean(data.tokens)
    )  # fmt: skip


def _inputs(x: NDArray[np.float32], data: Dataset) -> list[Floats]:
    bids, asks = _sizes(x, _BID_SIZE), _sizes(x, _ASK_SIZE)
    move, flow, bought, sold = (
        x[:, column].astype(np.float64) for column in (_MOVE, _FLOW, _BUYS, _SELLS)
    )
    lean = bids[0] - asks[0]
    found = [lean, *bids, *asks, x[:, _IMBALANCE_5].astype(np.float64), move, flow, bought, sold]
    for lag in _LAGS:
        found += [side[0] - _delayed(side[0], lag, data) for side in (bids, asks)]
    for half_life_s in _HALF_LIVES_S:
        found += _means((lean, flow, bought, sold, move), half_life_s, data)
    return [*found, _since(move != 0, data)]


def _lean(x: NDArray[np.float32]) -> Floats:
    return _sizes(x, _BID_SIZE)[0] - _sizes(x, _ASK_SIZE)[0]


def _sizes(x: NDArray[np.float32], first: int) -> list[Floats]:
    """Log sizes of a side's best levels; the inverse of what tokens make of a size."""
    shares = x[:, first : first + _LEVELS].astype(np.float64)
    return list(np.log(np.maximum(np.expm1(4 * shares), _LEAST_SIZE)).T)


def _delayed(x: Floats, lag: int, data: Dataset) -> Floats:
    """The values ``lag`` rows before; a segment's first ones before that."""
    found = x.copy()
    for first, end in pairwise(data.starts.tolist()):
        found[first + lag : end] = x[first : end - lag]
        found[first : first + lag] = x[first]
    return found


def _means(columns: Sequence[Floats], half_life_s: float, data: Dataset) -> list[Floats]:
    """Exponential means in time of each column, each segment's from its first row on."""
    values = np.stack(columns, axis=1)
    means = np.empty_like(values)
    for first, end in pairwise(data.starts.tolist()):
        elapsed_s = np.diff(data.ts[first:end], prepend=data.ts[first]) / 1e9
        mean = values[first]
        for row, weight in enumerate((1 - 0.5 ** (elapsed_s / half_life_s)).tolist(), first):
            mean = mean + weight * (values[row] - mean)
            means[row] = mean
    return list(means.T)


def _since(happened: NDArray[np.bool_], data: Dataset) -> Floats:
    """The log of the tenths of a second since the last row where it happened, or the segment's
    first."""
    begins = np.isin(np.arange(len(data)), data.starts[:-1])
    last = np.maximum.accumulate(np.where(happened | begins, np.arange(len(data)), 0))
    since: Floats = np.log1p((data.ts - data.ts[last]) / 1e8)
    return since
