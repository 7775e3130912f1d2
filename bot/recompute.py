"""Predictions made again at the positions at which a run made them. Importing this loads torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from bot import inference
from bot.config import Settings
from bot.core.events import Event, Fact, Prediction
from bot.model import deviation


class Recomputation:
    """Watches a replay: reads what the worker read, and compares at every recorded prediction.

    The recorded values decide; these are only held against them. An event is read no earlier
    than its prediction's ``read_position`` allows, so each model sees exactly what it had seen.
    """

    def __init__(self, settings: Settings) -> None:
        self._models = inference.checkpoints(settings)
        self._forecasters, _ = inference.forecasters(settings, self._models)
        self._waiting: dict[tuple[str, str], deque[tuple[int, Event]]] = {
            key: deque() for key in self._forecasters
        }
        self._compared = 0
        self._missing = 0
        self._worst: dict[str, float] = dict.fromkeys(self._models, 0.0)

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        del facts
        if isinstance(event, Prediction):
            self._compare(event)
            return
        symbol = getattr(event, "symbol", None)
        for key, forecaster in self._forecasters.items():
            if symbol == forecaster.symbol and type(event) in forecaster.wants:
                self._waiting[key].append((position, event))

    def _compare(self, recorded: Prediction) -> None:
        key = (recorded.model, recorded.symbol)
        forecaster = self._forecasters.get(key)
        if forecaster is None or recorded.rebuilt:
            self._missing += 1
            return
        waiting = self._waiting[key]
        while waiting and waiting[0][0] <= recorded.read_position:
            position, event = waiting.popleft()
            forecaster.take(event, position)
        again = forecaster.predict()
        if again is None:
            self._missing += 1
            return
        config = self._models[recorded.model].card.config
        self._compared += 1
        self._worst[recorded.model] = max(
            self._worst[recorded.model], deviation(recorded, again, config)
        )

    def summary(self) -> dict[str, Any]:
        """Counts, and per model the largest deviation beside the card's tolerance."""
        return {
            "recomputed": self._compared,
            "not_recomputed": self._missing,
            "deviation": {
                name: {
                    "worst": worst,
                    "tolerance": self._models[name].card.tolerance,
                    "ok": worst <= self._models[name].card.tolerance,
                }
                for name, worst in self._worst.items()
            },
        }
