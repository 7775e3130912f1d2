"""The verbs about the broker."""

from __future__ import annotations

from typing import Annotated

import typer

from bot import show
from bot.cli_options import Config, Db, Json, start_log

mqtt = typer.Typer(help="What waits for the MQTT broker.", no_args_is_help=True)


@mqtt.command()
def send(
    run: Annotated[str | None, typer.Argument(help="A run that has ended. [the latest]")] = None,
    config: Config = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Send the fills of an ended run that the broker has not got yet.

    Examples: `bot mqtt send` · `bot mqtt send 20261124-101500-3f2a --json`
    """
    from bot import config as settings_file
    from bot import send_fills

    settings = settings_file.load(config, db=db)
    start_log(settings)
    sent = send_fills.send(settings, run)
    if as_json:
        show.as_json(sent)
    else:
        show.as_summary("sent to the broker", sent.items())
