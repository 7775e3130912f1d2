"""`bot models`: which checkpoints there are, and which are in use."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from bot import show
from bot.cli_options import Json

models = typer.Typer(help="The trained models, and which are in use.", no_args_is_help=True)

Name: TypeAlias = Annotated[str, typer.Argument(help="An id of the list, or a .safetensors file.")]
_COLUMNS = ("id", "role", "active", "tokens", "intervals", "window", "trained", "venue", "weights")


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
