"""Which rows a training step reads, and how whole stretches are predicted as a stream would."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from bot.model.dataset import Dataset
from bot.model.transformer import CausalTransformer


class Crops:
    """Random crops of ``length`` tokens from the rows of one part of a dataset.

    A row counts in the loss when its layer-wise context is long enough: after ``burn_in`` tokens of
    its crop, or from the first on where the crop begins with its segment, as a stream does. Which
    crops a step reads is a function of (seed, step) alone, so a resumed training goes on the same.
    """

    def __init__(
        self, data: Dataset, part: NDArray[np.bool_], *, length: int, burn_in: int, seed: int
    ) -> None:
        spans = []
        for first, end in pairwise(data.starts.tolist()):
            rows = np.flatnonzero(part[first:end])
            if len(rows):
                spans.append((first, first + int(rows[0]), first + int(rows[-1]) + 1))
        if not spans:
            raise ValueError("no row to train on")
        self._spans = np.array(spans)  # [S, 3]: a segment's first row, its part's first and end
        sizes = self._spans[:, 2] - self._spans[:, 1]
        self._odds = sizes / sizes.sum()
        self._length, self._burn_in, self._seed = length, burn_in, seed

    def at(self, step: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], int]:
        """Rows [count, length], which of them count, and the position of the first token."""
        dice = np.random.default_rng((self._seed, step))
        chosen = self._spans[dice.choice(len(self._spans), count, p=self._odds)]
        segment, first, end = chosen.T
        # context may come from before the part; every row of the part is as likely
        low = np.maximum(first - self._burn_in, segment)
        high = np.maximum(end - self._length, low)
        starts = low + (dice.random(count) * (high - low + 1)).astype(np.int64)
        offsets = np.arange(self._length)
        rows = starts[:, None] + offsets
        fresh = (starts == segment)[:, None] | (offsets >= self._burn_in)
        counts = fresh & (rows < end[:, None]) & (rows >= first[:, None])
        return np.minimum(rows, end[:, None] - 1), counts, int(dice.integers(0, 1 << 20))


class _Piece(Struct, frozen=True):
    first: int  # first row read
    answers: int  # first row answered
    end: int


def predicted(
    model: CausalTransformer,
    tokens: Tensor,
    data: Dataset,
    part: NDArray[np.bool_],
    *,
    batch: int = 16,
    length: int = 2048,
    autocast: torch.dtype | None = None,
) -> tuple[NDArray[np.int64], Tensor]:
    """The rows of ``part`` [n] and the raw heads [n, outputs] that streaming would give for them.

    Each row is answered once, from all that an output can depend on (``config.reach``). ``tokens``
    is the dataset's, on the model's device.
    """
    reach = model.config.reach
    pieces = []
    for first, end in pairwise(data.starts.tolist()):
        rows = np.flatnonzero(part[first:end])
        if len(rows):
            answers = first + int(rows[0])
            while answers < first + int(rows[-1]) + 1:
                stop = min(answers + length, first + int(rows[-1]) + 1)
                pieces.append(_Piece(max(answers - reach + 1, first), answers, stop))
                answers = stop
    order, found = [], []
    pieces.sort(key=lambda piece: piece.end - piece.first)
    with torch.inference_mode():
        for at in range(0, len(pieces), batch):
            group = pieces[at : at + batch]
            longest = max(piece.end - piece.first for piece in group)
            span = np.arange(max(longest, model.config.window + 1))
            index = np.array([np.minimum(piece.first + span, piece.end - 1) for piece in group])
            x = tokens[torch.from_numpy(index).to(tokens.device)]
            with torch.autocast(tokens.device.type, autocast, enabled=autocast is not None):
                hidden = model.trunk(x)
            for piece, states in zip(group, hidden, strict=True):
                answered = np.arange(piece.answers, piece.end)
                kept = answered[part[answered]]
                order.append(kept)
                found.append(model.read_out(states[torch.from_numpy(kept - piece.first)]))
    rows = np.concatenate(order)
    back = np.argsort(rows)
    return rows[back], torch.cat(found)[torch.from_numpy(back)]
