"""The verbs about the settings."""

from __future__ import annotations

from typing import Annotated

import typer

from bot import show
from bot.cli_options import Config, Json

settings = typer.Typer(help="Show, check and explain the settings.", no_args_is_help=True)

_COLUMNS = ("key", "value", "from")


@settings.command("show")
def show_settings(
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what is not the default.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the settings that hold, and where each is from; secrets are `***`.

    Examples: `bot config show` · `bot config show --changed` · `bot config show --json`
    """
    from bot import config as settings_file
    from bot import config_check

    loaded = settings_file.load(config)
    if as_json:
        show.as_json(config_check.shown(loaded))
        return
    rows = list(config_check.table(loaded, config))
    if changed:
        defaults = {
            row["key"]: row["value"]
            for row in config_check.table(settings_file.Settings.model_construct(), config)
        }
        rows = [row for row in rows if row["value"] != defaults[row["key"]]]
    show.as_table("settings", rows, _COLUMNS)


@settings.command()
def check(config: Config = None, as_json: Json = False) -> None:
    """Tell everything that is wrong with the settings: key, value, what is allowed.

    Exit code 0 where nothing is, else 2.

    Examples: `bot config check` · `bot config check --config other.yaml --json`
    """
    from bot import config as settings_file
    from bot import config_check

    path = config or settings_file.config_path()
    found = config_check.problems(config)
    if as_json:
        show.as_json({"path": str(path), "ok": not found, "problems": found})
    elif not found:
        typer.echo(f"{path}: nothing is wrong")
    else:
        for problem in found:
            show.error(f"{path}: {problem}")
    if found:
        raise typer.Exit(2)


@settings.command()
def reference() -> None:
    """Print docs/configuration.md: every key, its default, what it takes.

    Example: `bot config reference > docs/configuration.md`
    """
    from bot import config_reference

    typer.echo(config_reference.page(), nl=False)
