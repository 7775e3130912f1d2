"""`bot train`: history to a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from bot import show
from bot.cli_options import Json

train = typer.Typer(help="Train the models on history; see docs/training.md.", no_args_is_help=True)

Paths: TypeAlias = Annotated[
    list[Path], typer.Argument(help="Archives, candle files, a store's folder, or a capture.")
]
Out: TypeAlias = Annotated[Path, typer.Option(help="Where model, card, record and curve go.")]
RecipeName: TypeAlias = Annotated[
    str | None, typer.Option("--recipe", help="small, candles, book, or a JSON file.")
]
Symbols: TypeAlias = Annotated[
    list[str] | None, typer.Option("--symbol", help="Only this one; repeat for more.")
]
Intervals: TypeAlias = Annotated[
    list[str] | None, typer.Option("--interval", help="Only this one (5, 15, ...); repeat.")
]
Repair: TypeAlias = Annotated[
    bool, typer.Option("--repair", help="Go on over damaged rows and gaps, and count them.")
]
Resume: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Go on with the training that was stopped in --out.")
]
Seed: TypeAlias = Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's.")]
Steps: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")]
TeacherPaths: TypeAlias = Annotated[
    list[Path] | None, typer.Option("--teacher", help="A checkpoint to learn from; repeat.")
]
Save: TypeAlias = Annotated[
    Path | None, typer.Option(help="Write the dataset (.npz) and train nothing.")
]
Half: TypeAlias = Annotated[
    bool, typer.Option("--half", help="With --save: tokens as float16, half the bytes.")
]


@train.command()
def candles(
    paths: Paths,
    out: Out = Path("data/models/predictor"),
    recipe: RecipeName = "small",
    symbol: Symbols = None,
    interval: Intervals = None,
    repair: Repair = False,
    resume: Resume = False,
    seed: Seed = None,
    steps: Steps = None,
    save: Save = None,
    half: Half = False,
    as_json: Json = False,
) -> None:
    """Train a price predictor: many symbols and intervals in one model.

    Example: `bot train candles data/store --interval 15 --out data/models/mine`
    """
    from bot import train as training

    wanted = training.Wanted(tuple(symbol or ()), tuple(interval or ()), repair)
    with show.progressing() as started:
        data = training.candles(paths, wanted, started("rows"))
    _use(data, (out, recipe, seed, steps, resume), save, half=half, as_json=as_json)


@train.command()
def book(
    paths: Paths,
    out: Out = Path("data/models/analyzer"),
    recipe: RecipeName = "book",
    symbol: Symbols = None,
    depth: Annotated[
        int | None, typer.Option(help="Of a capture's books; default: the first seen.")
    ] = None,
    repair: Repair = False,
    resume: Resume = False,
    seed: Seed = None,
    steps: Steps = None,
    save: Save = None,
    half: Half = False,
    as_json: Json = False,
) -> None:
    """Train an order-book analyzer on archives or a capture.

    Example: `bot train book data/store/linear/BTCUSDT --out data/models/mine`
    """
    from bot import train as training

    wanted = training.Wanted(tuple(symbol or ()), (), repair)
    with show.progressing() as started:
        data = training.books(paths, wanted, depth, started("events"))
    _use(data, (out, recipe, seed, steps, resume), save, half=half, as_json=as_json)


@train.command()
def prepared(
    dataset: Annotated[Path, typer.Argument(help="What --save wrote.")],
    out: Out,
    recipe: RecipeName = None,
    resume: Resume = False,
    seed: Seed = None,
    steps: Steps = None,
    teacher: TeacherPaths = None,
    odds: Annotated[
        Path | None, typer.Option(help="A .npy of what trees say of the rows, beside --teacher.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="How much --odds count beside the teachers.")
    ] = 0.5,
    as_json: Json = False,
) -> None:
    """Train on a prepared dataset: on what came, or on what teachers say of it.

    Examples: `bot train prepared rows.npz --recipe candles --out data/models/mine` ·
    `bot train prepared rows.npz --recipe student.json --teacher a/predictor.safetensors --out mine`
    """
    from bot.model.dataset import load_dataset
    from bot.model.lesson import Teachers

    data = load_dataset(dataset)
    name = recipe or ("book" if data.kind == "book" else "candles")
    teachers = Teachers(tuple(teacher or ()), odds, share)
    words = (out, name, seed, steps, resume)
    _use(data, words, None, half=False, as_json=as_json, teachers=teachers)


@train.command()
def shipped(
    dataset: Annotated[Path, typer.Argument(help="What --save wrote: of candles or of books.")],
    out: Out,
    as_json: Json = False,
) -> None:
    """Make a checkpoint as those that ship are made: trees, teachers, a student, baselines.

    One that was stopped goes on when it is started again; see docs/training.md.

    Example: `bot train shipped books.npz --out data/models/again`
    """
    from bot import train as training
    from bot.model.dataset import load_dataset

    data = load_dataset(dataset)
    with show.progressing() as started:
        summary = training.ship(data, out, started)
    show.as_json(summary) if as_json else show.as_summary("trained", summary.items())


def _use(
    data: Any,
    words: tuple[Any, ...],
    save: Path | None,
    *,
    half: bool,
    as_json: bool,
    teachers: Any = None,
) -> None:
    """Keep the dataset, or train on it."""
    from bot import train as training

    if save is not None:
        summary = training.keep(data, save, half=half)
        show.as_json(summary) if as_json else show.as_summary("dataset", summary.items())
        return
    out, recipe, seed, steps, resume = words
    with show.progressing() as started:
        summary = training.fit(
            data, recipe, out, seed=seed, steps=steps, resume=resume, progress=started("steps"),
            teachers=teachers,
        )  # fmt: skip
    show.as_json(summary) if as_json else show.as_summary("trained", summary.items())
