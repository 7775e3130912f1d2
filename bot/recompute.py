"""Predictions made again at the positions at which a run made them. Importing this loads torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from bot import inference
from bot.config import Settings
from bot.core.events import Command, Event, Fact, Prediction
from bot.model import Card, Forecaster, deviation
from bot.model.portfolio import PortfolioMember
from bot.run import WARMUP


class Recomputation:
    """Watches a replay: reads what the worker read, and compares at every recorded prediction.

    The recorded values decide; these are only held against them. An event is read no earlier
    than its prediction's ``read_position`` allows, so each model sees exactly what it had seen. A
    run that was continued may have changed its models at a start: ``used`` has the hash of each
    role's weights from a position on, oldest first.
    """

    def __init__(self, settings: Settings, used: Sequence[tuple[int, dict[str, str]]] = ()) -> None:
        torch.set_num_threads(settings.models.threads)
        self._settings = settings
        self._used = used
        self._compared = 0
        self._missing = 0
        self._worst: dict[str, float] = {}
        self._cards: dict[str, Card] = {}
        self._begin(0)

    def _begin(self, position: int) -> None:
        """As the worker of a process that starts: with nothing read."""
        hashes = [of for first, of in self._used if first <= position]
        self._checkpoints = inference.recorded_checkpoints(
            self._settings, hashes[-1] if hashes else {}
        )
        self._cards |= {model.card.name: model.card for model in self._checkpoints.values()}
        for name in self._cards:
            self._worst.setdefault(name, 0.0)
        self._forecasters, _ = inference.forecasters(self._settings, self._checkpoints)
        self._waiting: dict[tuple[str, str], deque[tuple[int, Event]]] = {
            key: deque() for key in self._forecasters
        }

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        del facts
        if isinstance(event, Prediction):
            self._compare(event)
            return
        if isinstance(event, Command) and (event.name, event.source) == ("pause", WARMUP):
            self._begin(position)
        symbol = getattr(event, "symbol", None)
        for key, forecaster in self._forecasters.items():
            if symbol == forecaster.symbol and type(event) in forecaster.wants:
                waiting = self._waiting[key]
                waiting.append((position, event))
                if len(waiting) > self._settings.models.inbox:  # no worker lags more
                    read_position, read = waiting.popleft()
                    forecaster.take(read, read_position)

    def _compare(self, recorded: Prediction) -> None:
        key = (recorded.model, recorded.symbol)
        forecaster = self._forecasters.get(key)
        if forecaster is None or recorded.rebuilt:
            self._missing += 1
            return
        together = [key]
        if isinstance(forecaster, PortfolioMember):  # answers for all when all have been read
            together = [each for each in self._forecasters if each[0] == recorded.model]
        self._read_until(recorded.read_position, together)
        again = forecaster.predict()
        if again is None:
            self._missing += 1
            return
        config = self._cards[recorded.model].config
        self._compared += 1
        self._worst[recorded.model] = max(
            self._worst[recorded.model], deviation(recorded, again, config)
        )

    def _read_until(self, read_position: int, keys: Sequence[tuple[str, str]]) -> None:
        """What these forecasters had read, in the order in which it came."""
        due: list[tuple[int, Event, Forecaster]] = []
        for key in keys:
            waiting = self._waiting[key]
            while waiting and waiting[0][0] <= read_position:
                due.append((*waiting.popleft(), self._forecasters[key]))
        for position, event, forecaster in sorted(due, key=lambda one: one[0]):
            forecaster.take(event, position)

    def summary(self) -> dict[str, Any]:
        """Counts, and per model the largest deviation beside the card's tolerance."""
        return {
            "recomputed": self._compared,
            "not_recomputed": self._missing,
            "deviation": {
                name: {
                    "worst": worst,
                    "tolerance": self._cards[name].tolerance,
                    "ok": worst <= self._cards[name].tolerance,
                }
                for name, worst in self._worst.items()
            },
        }
