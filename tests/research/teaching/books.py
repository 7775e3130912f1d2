"""A made book: what comes next follows the imbalance, and what traded last."""

from __future__ import annotations

import numpy as np

from bot.model.dataset import Dataset, Segment, Series, join
from bot.model.tokens import BOOK_FEATURES

STEP_NS = 50_000_000


def book(rows: int = 3_000, seed: int = 1) -> Dataset:
    """Two segments of rows 50 ms apart; the next move's odds are those of the best sizes, and of
    the order flow."""
    parts = [_segment(rows // 2, seed + number, number) for number in range(2)]
    return join(parts, kind="book", venue="made", sources={"made": "0"})


def _segment(rows: int, seed: int, number: int) -> Segment:
    dice = np.random.default_rng(seed)
    tokens = np.zeros((rows, BOOK_FEATURES), dtype=np.float32)
    bid, ask = dice.gamma(0.7, 5, (2, rows))
    flow = dice.normal(0, 0.5, rows)
    tokens[:, 20], tokens[:, 60] = 0.25 * np.log1p(bid), 0.25 * np.log1p(ask)
    tokens[:, 83] = (bid - ask) / (bid + ask)
    tokens[:, 86] = flow
    drive = np.log(bid / ask) + 2 * flow
    moves = np.sign(drive) * (dice.random(rows) < 0.4 / (1 + np.exp(3 - np.abs(drive))))
    price = 100 * np.exp(1e-4 * np.concatenate(([0.0], moves[:-1].cumsum())))
    tokens[:, 81] = np.arcsinh(np.diff(np.log(price), prepend=np.log(price[0])) * 1e4)
    ts = (1 + number) * 10**15 + STEP_NS * np.arange(rows, dtype=np.int64)
    return Segment(Series("linear:AAAUSDT"), ts, tokens, price, np.ones(rows))
