"""Halts trading, or pauses it, when the models' scores or inputs say that the world has changed.

It only speaks: a command enters the queue and is recorded, and a replay obeys the recorded one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bot.config_trade import Watch
from bot.core.events import CommandName, Event, Fact
from bot.scoring import Figures, Scoring

LOOK_EVERY_NS = 10**9
"""Between two looks, in the run's time. Each takes one model and horizon in turn, since the figures
of a thousand outcomes take a millisecond, in which the loop does nothing else."""
SCORES, INPUTS = "scores", "inputs"
"""Sources of the commands."""


class Alarm:
    """A watcher of a live run. ``speak`` queues a command: its name, source and reason.

    ``drift`` gives each model's population stability index. Each source speaks once.
    """

    def __init__(
        self,
        watch: Watch,
        scoring: Scoring,
        drift: Callable[[], Mapping[str, float]],
        speak: Callable[[CommandName, str, str], None],
    ) -> None:
        self._watch = watch
        self._scoring = scoring
        self._drift = drift
        self._speak = speak
        self._due_ns = 0
        self._turn = 0
        self._spoken: set[str] = set()

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        del position, facts
        if event.ts >= self._due_ns:
            self._due_ns = event.ts + LOOK_EVERY_NS
            self.look()

    def look(self) -> None:
        """Speak if the figures whose turn it is, or the inputs, are past a limit."""
        watch, series = self._watch, self._scoring.series()
        if series and watches_scores(watch) and SCORES not in self._spoken:
            self._turn += 1
            figures = self._scoring.figures_of(series[self._turn % len(series)])
            self._say(SCORES, score_reasons(watch, [figures]))
        if watch.most_drift is not None and INPUTS not in self._spoken:
            self._say(INPUTS, drift_reasons(watch, self._drift()))

    def _say(self, source: str, reasons: Iterator[str]) -> None:
        reason = next(reasons, None)
        if reason is not None:
            self._spoken.add(source)
            self._speak(self._watch.command, source, reason)


def watches_scores(watch: Watch) -> bool:
    return watch.least_rank_ic is not None or watch.most_calibration_error is not None


def score_reasons(watch: Watch, figures: Sequence[Figures]) -> Iterator[str]:
    """What of the figures is past a limit."""
    for one in figures:
        if one.n < watch.least_scored:
            continue
        where = f"{one.model} at {one.horizon_s:g} s over {one.n} outcomes"
        ic, error = one.rank_ic, one.calibration_error
        if watch.least_rank_ic is not None and ic is not None and ic < watch.least_rank_ic:
            yield f"{where}: rank IC {ic:.4f} is below {watch.least_rank_ic:g}"
        most = watch.most_calibration_error
        if most is not None and error is not None and error > most:
            yield f"{where}: calibration error {error:.4f} is above {most:g}"


def drift_reasons(watch: Watch, drift: Mapping[str, float]) -> Iterator[str]:
    """Which model's inputs are past the limit."""
    if watch.most_drift is None:
        return
    for model, index in sorted(drift.items()):
        if index > watch.most_drift:
            yield (
                f"{model}: its inputs' population stability index {index:.3f} is above "
                f"{watch.most_drift:g}: the market is not the one it learned from"
            )
