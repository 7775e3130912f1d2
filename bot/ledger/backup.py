"""A checked copy of the database, made while a run writes to it. Blocks; call it in a thread."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from bot.ledger.database import LedgerError, is_file, parse_url, shown

PREFIX: Final = "kvtrader-"
_PG_TIMEOUT_S: Final = 3_600


def back_up(text_url: str, folder: Path, keep: int, now_ns: int) -> Path:
    """Copy the database into ``folder``, check the copy, leave the newest ``keep``; its path.

    SQLite through its online backup, Postgres through pg_dump. Raises LedgerError; then no copy of
    that name is there and the older ones stay.
    """
    url = parse_url(text_url)
    name = f"{PREFIX}{datetime.fromtimestamp(now_ns / 1e9, UTC):%Y%m%dT%H%M%SZ}"
    path = folder / f"{name}.db" if is_file(url) else folder / f"{name}.dump"
    draft = path.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_file(url):
            _copy_sqlite(Path(url.database or ""), draft)
        else:
            _dump_postgres(url, draft)
        _synced(draft).replace(path)
    except OSError as error:
        raise LedgerError(f"{path}: the backup cannot be written: {error.strerror}") from error
    finally:
        if draft.is_file():
            draft.unlink()
    for old in sorted(folder.glob(f"{PREFIX}*{path.suffix}"))[:-keep]:
        old.unlink()
    return path


def _copy_sqlite(source: Path, draft: Path) -> None:
    """In one step: a copy in several begins anew at every commit of the run."""
    draft.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as read,
            closing(sqlite3.connect(draft)) as copy,
        ):
            read.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a -wal beside it
            found = copy.execute("PRAGMA integrity_check").fetchone()[0]
            wrong = copy.execute("PRAGMA foreign_key_check").fetchone()
            copy.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(f"{source}: cannot be backed up: {error}") from error
    if found != "ok" or wrong is not None:
        raise LedgerError(f"{source}: its copy is damaged ({found}): run `bot db check`")


def _dump_postgres(url: URL, draft: Path) -> None:
    """The password goes through the environment: a command line is seen by everyone."""
    environment = {**os.environ, "PGPASSWORD": url.password or ""}
    plain = url.set(drivername="postgresql", password=None)
    target = plain.render_as_string(hide_password=False)
    _called("pg_dump", "--format=custom", f"--file={draft}", f"--dbname={target}", env=environment)
    if "TABLE DATA public runs" not in _called("pg_restore", "--list", str(draft), env=environment):
        raise LedgerError(f"{shown(url)}: its dump holds no table `runs`")


def _called(program: str, *words: str, env: dict[str, str]) -> str:
    found = shutil.which(program)
    if found is None:
        raise LedgerError(f"{program} is not installed: no backup of a Postgres ledger without it")
    try:
        done = subprocess.run(  # noqa: S603 - a program found on the path, words of our own
            [found, *words], env=env, capture_output=True, text=True, timeout=_PG_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LedgerError(f"{program}: did not end within {_PG_TIMEOUT_S} s") from error
    if done.returncode:
        raise LedgerError(f"{program}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout


def _synced(path: Path) -> Path:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path
