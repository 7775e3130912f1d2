"""A picture of the decode bench: time per token by context, and the roofline below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.research.bench.decode import Row


def plot(rows: Sequence[Row], file: Path) -> None:
    """One panel a model and number of threads, both axes logarithmic; the suffix is the format.

    Raises ModuleNotFoundError without matplotlib (extra ``bench``).
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional extra

    single = [row for row in rows if row.batch == 1 and not row.path.endswith("_cold")]
    panels = sorted({(row.model, row.threads) for row in single})
    figure = Figure(figsize=(6 * max(len(panels), 1), 5), layout="constrained")
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _draw(axes, [row for row in single if (row.model, row.threads) == panel])
        axes.set_title(f"model {panel[0]}, {panel[1]} threads")
    figure.savefig(file)


def _draw(axes: Any, rows: list[Row]) -> None:
    lines: dict[str, list[Row]] = {}
    for row in rows:
        cache = "" if row.path == "no_cache" else f", {row.weight_dtype} + {row.kv_cache_dtype}"
        lines.setdefault(f"{row.path}{cache}", []).append(row)
    for name, line in lines.items():
        ordered = sorted(line, key=lambda row: row.context)
        contexts = [row.context for row in ordered]
        (drawn,) = axes.plot(contexts, [row.p50_us for row in ordered], marker="o", label=name)
        floors = [row.roofline_us for row in ordered]
        if None not in floors:
            axes.plot(contexts, floors, linestyle=":", color=drawn.get_color())
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("context, tokens")
    axes.set_ylabel("p50, microseconds (dotted: roofline)")
    axes.legend(fontsize="small")
