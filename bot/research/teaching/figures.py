"""What a card tells of rows after the training: by how much a checkpoint wins or misses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bot.model.checkpoint import load, save
from bot.model.evaluation import ALL

_NAMES = {"rank_ic": "ic", "daily_rank_ic": "daily_ic"}
_DIGITS = 4


def later_figures(rows: Iterable[dict[str, Any]], horizons: Iterable[float]) -> dict[str, float]:
    """The rank correlations over all symbols, the paired differences to each baseline and their
    95 % intervals, of `bot evaluate`'s rows; ``horizons`` are the recipe's, in order.

    ``later_ic_100_less_imbalance_lo`` is the lower end at 100 ms. An interval of too few blocks
    is left out.
    """
    told = [row for row in rows if row["symbol"] == ALL and row["metric"] in _NAMES]
    lengths = sorted({row["horizon"] for row in told})
    names = dict(zip(lengths, horizons, strict=True))
    found: dict[str, float] = {}
    for row in told:
        name = f"later_{_NAMES[row['metric']]}_{names[row['horizon']]}"
        found[name] = row["value"]
        for other, said in row["baselines"].items():
            gap = said["difference"]
            found[f"{name}_less_{other}"] = gap["value"]
            if gap["lo"] is not None:
                found[f"{name}_less_{other}_lo"] = gap["lo"]
                found[f"{name}_less_{other}_hi"] = gap["hi"]
    return {name: round(value, _DIGITS) for name, value in found.items() if value is not None}


def write_figures(checkpoint: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Put them on the card in place of those that it had. Raises CheckpointError."""
    made = load(checkpoint)
    kept = {name: value for name, value in made.card.metrics.items() if name[:6] != "later_"}
    horizons = made.card.training["recipe"]["horizons"]
    metrics = kept | later_figures(rows, horizons)
    save(replace(made, card=replace(made.card, metrics=metrics)), checkpoint)
