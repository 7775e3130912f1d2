"""Every prediction held against what came, once its horizon has passed.

A function of the run's events alone, so live, replay and a run stepped again score the same. What
waits and what was seen of late is in ``state``; numbers are floats, nothing here decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from operator import mul

from msgspec import Struct

from bot.core.events import BookUpdate, Candle, Event, FeedDown, Prediction

WINDOW = 1_000
"""Outcomes of a model and horizon that the rolling figures look at."""
_CLOSES = 512
_BINS = 10
_LEAST_CHANCE = 1e-6


class Scored(Struct, frozen=True, gc=False):
    """A prediction and its outcome, the log return over the horizon. ``ts`` is the local time of
    the event that told it, ``read_position`` the prediction's."""

    ts: int
    symbol: str
    model: str
    horizon: int
    horizon_ns: int
    read_position: int
    read_ts: int
    expected_return: float
    up_probability: float
    outcome: float


class Waiting(Struct, gc=False):
    """One horizon of a prediction that is not over; ``due`` is local time, or a bar's close."""

    due: int
    price: float
    horizon: int
    prediction: Prediction


class Close(Struct, gc=False):
    """A bar's close, and the journal position at which it was read."""

    position: int
    close_ts: int
    bar_ns: int
    price: float


class State(Struct):
    """All that scoring remembers; keys are "symbol model horizon"."""

    on_mids: dict[str, dict[str, list[Waiting]]] = {}
    on_closes: dict[str, list[Waiting]] = {}
    mids: dict[str, float] = {}
    closes: dict[str, list[Close]] = {}
    recent: dict[str, list[Scored]] = {}
    scored: int = 0
    lost: int = 0
    """Horizons that ended while nobody knew the price."""


class Figures(Struct, frozen=True):
    """One model and horizon over its last outcomes, all symbols together. None: too few, or all
    alike. Probabilities are judged where there was a move."""

    model: str
    horizon_s: float
    n: int
    rank_ic: float | None
    hit_rate: float | None
    log_loss: float | None
    calibration_error: float | None


class Scoring:
    """Give it every event after it was stepped; it tells what became known with it.

    A prediction whose price is the close of the newest bar that it read, and whose horizon is a
    number of bars, is judged by the close that many bars later; any other by the mid that stood
    when its horizon had passed since it was read. A horizon over which the book was lost is
    counted in ``state.lost`` and not judged.
    """

    def __init__(self, mid: Callable[[str], float | None]) -> None:
        """``mid`` gives a symbol's present mid, None while its book is not trusted."""
        self.state = State()
        self._mid = mid

    def step(self, position: int, event: Event) -> list[Scored]:
        """Take in an event that was read at ``position``.

        Books and trades tell nothing while ``state.on_mids`` is empty, and need not come then.
        """
        kind = type(event)
        if kind is BookUpdate:
            waiting = self.state.on_mids.get(event.symbol)  # type: ignore[union-attr]
            return [] if waiting is None else self._passed(event, waiting)  # type: ignore[arg-type]
        if kind is Prediction:
            return self._await(event)  # type: ignore[arg-type]
        if kind is Candle:
            return self._closed(position, event)  # type: ignore[arg-type]
        if kind is FeedDown:
            self._forget(event.symbol)  # type: ignore[union-attr]
        return []

    def figures(self) -> list[Figures]:
        """The rolling figures, by model and horizon."""
        return [self.figures_of(key) for key in self.series()]

    def series(self) -> list[str]:
        """The keys of the models and horizons that have outcomes, in order."""
        return sorted(key for key, found in self.state.recent.items() if found)

    def figures_of(self, key: str) -> Figures:
        """The rolling figures of one of ``series``."""
        return _figures(self.state.recent[key])

    # --- what waits -------------------------------------------------------------------------

    def _await(self, prediction: Prediction) -> list[Scored]:
        state, symbol = self.state, prediction.symbol
        close = self._close_read(prediction)
        newest_ts = state.closes[symbol][-1].close_ts if close is not None else 0
        told: list[Scored] = []
        for index, horizon in enumerate(prediction.horizons):
            if close is not None and not horizon.horizon_ns % close.bar_ns:
                due = close.close_ts + horizon.horizon_ns
                waiting = Waiting(due, prediction.price, index, prediction)
                known = self._close_at(symbol, due) if due <= newest_ts else None
                if known is not None:
                    told += self._scored(prediction.ts, [waiting], known.price)
                else:
                    state.on_closes.setdefault(symbol, []).append(waiting)
                continue
            due = prediction.read_ts + horizon.horizon_ns
            if due <= prediction.ts:  # it came too late to be of use, or to be judged
                state.lost += 1
                continue
            mid = self._mid(symbol)
            if mid is None:
                state.lost += 1
                continue
            state.mids[symbol] = mid
            waiting = Waiting(due, prediction.price, index, prediction)
            key = f"{prediction.model} {index}"
            state.on_mids.setdefault(symbol, {}).setdefault(key, []).append(waiting)
        return told

    def _close_read(self, prediction: Prediction) -> Close | None:
        """The bar that the prediction answers for, if it is one of bars."""
        for close in reversed(self.state.closes.get(prediction.symbol, [])):
            if close.position <= prediction.read_position:
                return close if close.price == prediction.price else None
        return None

    def _close_at(self, symbol: str, close_ts: int) -> Close | None:
        for one in reversed(self.state.closes.get(symbol, [])):
            if one.close_ts <= close_ts:
                return one if one.close_ts == close_ts else None
        return None

    # --- what became known ------------------------------------------------------------------

    def _passed(self, update: BookUpdate, waiting: dict[str, list[Waiting]]) -> list[Scored]:
        """The mid before this update stood at every time up to it."""
        state, symbol = self.state, update.symbol
        told: list[Scored] = []
        for entries in waiting.values():
            while entries and entries[0].due < update.ts:
                told += self._scored(update.ts, [entries.pop(0)], state.mids[symbol])
        mid = self._mid(symbol)
        if mid is None:
            self._forget(symbol)
        else:
            state.mids[symbol] = mid
        return told

    def _closed(self, position: int, candle: Candle) -> list[Scored]:
        state, symbol = self.state, candle.symbol
        bar_ns = candle.exchange_ts - candle.open_ts
        closes = state.closes.setdefault(symbol, [])
        if closes and candle.exchange_ts <= closes[-1].close_ts:
            return []  # history that was read already
        price = float(candle.close)
        closes.append(Close(position, candle.exchange_ts, bar_ns, price))
        del closes[:-_CLOSES]
        now = candle.exchange_ts
        waiting = state.on_closes.get(symbol, [])
        over = [entry for entry in waiting if entry.due <= now]
        state.on_closes[symbol] = [entry for entry in waiting if entry.due > now]
        told = self._scored(candle.ts, [entry for entry in over if entry.due == now], price)
        state.lost += len(over) - len(told)
        return told

    def _forget(self, symbol: str) -> None:
        waiting = self.state.on_mids.pop(symbol, {})
        self.state.lost += sum(len(entries) for entries in waiting.values())

    def _scored(self, ts: int, over: list[Waiting], price: float) -> list[Scored]:
        """The outcomes of horizons that ended at ``price``."""
        told, all_recent = [], self.state.recent
        for entry in over:
            said, index = entry.prediction, entry.horizon
            horizon, model = said.horizons[index], said.model
            scored = Scored(
                ts, said.symbol, model, index, horizon.horizon_ns, said.read_position,
                said.read_ts, horizon.expected_return, horizon.up_probability,
                math.log(price / entry.price),
            )  # fmt: skip
            told.append(scored)
            key = f"{model} {index}"
            recent = all_recent.get(key)
            if recent is None:
                recent = all_recent[key] = []
            recent.append(scored)
            if len(recent) > WINDOW:
                del recent[0]
        self.state.scored += len(told)
        return told


# --- figures ------------------------------------------------------------------------------------


def _figures(found: list[Scored]) -> Figures:
    moved = [one for one in found if one.outcome != 0]
    told = [one for one in moved if one.expected_return != 0]
    hits = sum((one.expected_return > 0) == (one.outcome > 0) for one in told)
    return Figures(
        found[0].model,
        found[0].horizon_ns / 1e9,
        len(found),
        rank_correlation([one.expected_return for one in found], [one.outcome for one in found]),
        hits / len(told) if told else None,
        math.fsum(_log_loss(one) for one in moved) / len(moved) if moved else None,
        _calibration_error(moved) if moved else None,
    )


def _log_loss(one: Scored) -> float:
    chance = one.up_probability if one.outcome > 0 else 1 - one.up_probability
    return -math.log(max(chance, _LEAST_CHANCE))


def _calibration_error(moved: list[Scored]) -> float:
    """The mean over moves of their bin's |said - rose|, in ten equally filled bins."""
    ordered = sorted(moved, key=lambda one: one.up_probability)
    edges = [round(index * len(ordered) / _BINS) for index in range(_BINS + 1)]
    gaps = (
        abs(math.fsum(one.up_probability - (one.outcome > 0) for one in ordered[first:last]))
        for first, last in pairwise(edges)
    )
    return math.fsum(gaps) / len(ordered)


def rank_correlation(x: list[float], y: list[float]) -> float | None:
    """Spearman's; None where one side is constant. Ties share their mean rank."""
    a, b = _ranks(x), _ranks(y)
    spread = sum(map(mul, a, a)) * sum(map(mul, b, b))
    return sum(map(mul, a, b)) / math.sqrt(spread) if spread else None


def _ranks(values: list[float]) -> list[int]:
    """Twice the distance of each rank from the middle one: an integer, also for ties."""
    ordered = sorted(values)
    last = {value: rank for rank, value in enumerate(ordered, 1)}
    ordered.reverse()
    first = {value: rank for rank, value in enumerate(ordered, 1)}  # from the end
    return [last[value] - first[value] for value in values]
