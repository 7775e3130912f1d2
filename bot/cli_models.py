"""`bot models`: which checkpoints there are, and which are in use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from bot import show
from bot.cli_options import Config, Db, Json, Limit

models = typer.Typer(help="The trained models, and which are in use.", no_args_is_help=True)

Name: TypeAlias = Annotated[str, typer.Argument(help="An id of the list, or a .safetensors file.")]
_COLUMNS = ("id", "role", "active", "tokens", "intervals", "window", "trained", "venue", "weights")
_JUDGED = ("source", "model", "symbol", "horizon", "metric", "value", "lo", "hi", "n")
_SWITCHES = (
    "ts", "role", "challenger_id", "switched", "champion_value", "challenger_value", "lo", "hi", "n"
)  # fmt: skip


@models.command(name="list")
def list_(as_json: Json = False) -> None:
    """The shipped checkpoints and those under data/models. Example: `bot models list`"""
    from bot.model.registry import Registry

    registry = Registry()
    rows = [_row(registry, entry) for entry in registry.entries()]
    show.as_json(rows) if as_json else show.as_table("models", rows, _COLUMNS)


@models.command(name="show")
def show_(name: Name, as_json: Json = False) -> None:
    """A checkpoint's card: what made it and what it reached.

    Example: `bot models show predictor`
    """
    import msgspec

    from bot.model.checkpoint import load
    from bot.model.registry import Registry

    registry = Registry()
    entry = registry.find(name)
    load(entry.path)
    if as_json:
        show.as_json(_row(registry, entry) | {"card": msgspec.to_builtins(entry.card)})
        return
    show.as_summary(f"model {entry.id}", _row(registry, entry).items())
    show.as_summary("metrics", entry.card.metrics.items())


@models.command()
def activate(name: Name, as_json: Json = False) -> None:
    """Use this checkpoint for its role from the next run on.

    Example: `bot models activate predictor`
    """
    from bot.model.registry import Registry

    registry = Registry()
    entry = registry.activate(name)
    row = _row(registry, entry)
    show.as_json(row) if as_json else show.as_summary("active", row.items())


def _row(registry: Any, entry: Any) -> dict[str, Any]:
    card = entry.card
    active = registry.active(entry.role) if entry.role else None
    return {
        "id": entry.id,
        "role": entry.role,
        "active": active is not None and active.path == entry.path,
        "tokens": card.tokens,
        "intervals": list(card.intervals),
        "window": card.config.window,
        "trained": card.trained,
        "venue": card.venue,
        "weights": card.weights_sha256[:12],
        "path": str(entry.path),
    }


@models.command()
def evaluate(config: Config = None, db: Db = None, as_json: Json = False) -> None:
    """Judge the models in use on the last days (schedule.evaluation.days), into the ledger.

    The predictor on the ledger's bars beside its baselines, and every model by what it said while
    trading. Example: `bot models evaluate`
    """
    from bot import judge

    with show.progressing() as started:
        rows = judge.evaluate_lately(judge.Judging(_settings(config, db), time.time_ns(), started))
    show.as_json(rows) if as_json else show.as_table("models", rows, _JUDGED)


@models.command()
def retrain(config: Config = None, db: Db = None, as_json: Json = False) -> None:
    """Train a challenger for the predictor in use; it is made active only if it is surely better.

    As schedule.retraining says: the last days are kept from its training and judge both.
    Example: `bot models retrain`
    """
    from bot import judge

    with show.progressing() as started:
        row = judge.retrain(judge.Judging(_settings(config, db), time.time_ns(), started))
    show.as_json(row) if as_json else show.as_summary("challenger", row.items())


@models.command()
def switches(
    limit: Limit = 20, config: Config = None, db: Db = None, as_json: Json = False
) -> None:
    """The challengers that were held against the model in use, and which took its place.

    Example: `bot models switches`
    """
    from bot.ledger import judged, reading

    rows = reading.read(_settings(config, db).ledger.db, judged.switches, limit=limit)
    show.as_json(rows) if as_json else show.as_table("switches", rows, _SWITCHES)


def _settings(config: Path | None, db: str | None) -> Any:
    from bot import config as settings_file
    from bot.cli_options import start_log

    settings = settings_file.load(config, db=db)
    start_log(settings)
    return settings
