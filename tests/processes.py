"""``bot`` in processes of its own, as a person or a tool would start it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bot.ledger import queries, reading
from bot.ledger.database import LedgerError

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 60.0
WITHOUT = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None  # importing it is an ImportError
from bot.cli import main
sys.argv = ["bot", *{arguments!r}]
try:
    main()
finally:
    assert not [name for name in {blocked!r} if sys.modules.get(name)]
"""


def environment(**more: str) -> dict[str, str]:
    kept = {key: text for key, text in os.environ.items() if not key.startswith("BOT__")}
    quiet = {"BOT__DASHBOARD__ENABLED": "false"}  # a web server takes half a second to import
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **quiet, **more}


def bot(
    *arguments: object, cwd: Path, without: tuple[str, ...] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """Run ``bot`` to its end; ``without`` names packages that it cannot import."""
    words = [str(argument) for argument in arguments]
    command = ["-m", "bot", *words]
    if without:
        command = ["-c", WITHOUT.format(blocked=without, arguments=words)]
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment(**more), capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def one_line(result: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one line of an expected failure; no traceback, nothing on stdout."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def told(result: subprocess.CompletedProcess[str]) -> Any:
    """The JSON that a successful call printed."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class Bot:
    """A ``bot paper --venue local`` under way in ``folder``, whose config.yaml it reads."""

    VERB: tuple[str, ...] = ("paper", "--venue", "local", "--json")

    def __init__(self, folder: Path, *arguments: str, **more: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._errors = (folder / f"stderr-{self.port}.txt").open("w+")
        command = [sys.executable, "-m", "bot", *self.VERB, *arguments]
        self._process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=environment(BOT__LOCAL_VENUE__PORT=str(self.port), **more), start_new_session=True,
        )  # fmt: skip

    def wait_for(self, condition: Callable[[], Any], what: str, limit_s: float = WAIT_S) -> None:
        """Raise AssertionError where it does not come true, or the bot ends before."""
        end = time.monotonic() + limit_s
        while not condition():
            assert self._process.poll() is None, f"ended before {what}: {self.errors}"
            assert time.monotonic() < end, f"no {what}: {self.errors}"
            time.sleep(0.1)

    def rows(self, question: str) -> list[dict[str, Any]]:
        """What a reading verb would say now; [] before the database is made."""
        db = self.folder / "data" / "kvtrader.db"
        if not db.exists():
            return []
        ask = getattr(queries, question)
        try:
            rows: list[dict[str, Any]] = reading.read(f"sqlite:///{db}", ask, limit=100_000)
        except LedgerError:
            return []
        return rows

    def control(self, path: str, **body: object) -> Any:
        """Ask the bot's venue for a fault, or how many there were."""
        url = f"http://127.0.0.1:{self.port}/control/{path}"
        data = json.dumps(body).encode() if body else None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, data=data, timeout=10) as answer:
            return json.load(answer)

    def end(self, number: signal.Signals) -> dict[str, Any]:
        """Send a signal that ends it cleanly; the summary that it prints."""
        self._process.send_signal(number)
        return self.summary()

    def summary(self, code: int = 0) -> dict[str, Any]:
        """What it prints at its end."""
        output, _ = self._process.communicate(timeout=WAIT_S)
        assert self._process.returncode == code, self.errors
        result: dict[str, Any] = json.loads(output)
        return result

    def children(self) -> list[int]:
        """The processes that it started."""
        pid = self._process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=WAIT_S)

    @property
    def errors(self) -> str:
        return Path(self._errors.name).read_text()

    @property
    def venue_is_gone(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives out by itself: one of those
    may belong to somebody's connection before it is used here."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
