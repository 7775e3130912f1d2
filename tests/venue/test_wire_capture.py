"""Real traffic: the codec's books against an independent one that only knows JSON and sorting."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import zstandard


def lines_of(path: Path) -> list[dict]:
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line, parse_float=Decimal) for line in file]


def plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def brute_force_rows(path: Path) -> Iterator[list[str]]:
    """The best prices after every book message: parse all, apply all, sort all."""
    lines = lines_of(path)
    category = {line["conn"]: urlsplit(line["addr"]).path.split("/")[-1]
                for line in lines if line["t"] == "connect"}  # fmt: skip
    received = sorted((line for line in lines if line["t"] == "recv"), key=lambda line: line["ts"])
    books: dict[tuple[str, str], dict[str, dict[Decimal, Decimal]]] = {}
    for line in received:
        frame = json.loads(line["data"])
        if not frame.get("topic", "").startswith("orderbook."):
            continue
        data = frame["data"]
        book = books.setdefault((line["conn"], frame["topic"]), {"b": {}, "a": {}})
        if frame["type"] == "snapshot" or data["u"] == 1:
            book["b"], book["a"] = {}, {}
        for side in ("b", "a"):
            for price, size in data[side]:
                book[side][Decimal(price)] = Decimal(size)
            book[side] = {price: size for price, size in book[side].items() if size}
        bids, asks = sorted(book["b"].items(), reverse=True), sorted(book["a"].items())
        yield [data["s"], category[line["conn"]], str(frame["cts"]), str(data["u"]),
               *map(plain, (*bids[0], *asks[0]))]  # fmt: skip


def start_replay(folder: Path, capture: Path, hash_seed: str) -> subprocess.Popen[str]:
    """``bot replay`` in a process of its own, with its best prices written to a file."""
    return subprocess.Popen(
        [sys.executable, "-m", "bot", "replay", str(capture), "--json",
         "--bbo", str(folder / f"{hash_seed}.csv")],
        stdout=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": hash_seed,
             "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


@pytest.fixture(scope="module")
def replays(real_capture, tmp_path_factory) -> tuple[Path, list[dict]]:
    """The capture replayed in two processes that hash differently."""
    folder = tmp_path_factory.mktemp("replays")
    processes = [start_replay(folder, real_capture, seed) for seed in ("1", "271828")]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return folder, results


def test_every_frame_is_read_and_no_book_has_a_gap(replays):
    _, (result, _) = replays
    assert (result["frames"], result["gaps"], result["skipped"]) == (3227, 0, 0)


def test_processes_that_hash_differently_decide_the_same(replays):
    folder, (first, second) = replays
    assert first["digest"] == second["digest"]
    assert first["facts"] == second["facts"] > 0
    assert (folder / "1.csv").read_bytes() == (folder / "271828.csv").read_bytes()


def test_the_best_prices_after_every_book_message_equal_those_of_a_brute_force_book(
    replays, real_capture
):
    folder, _ = replays
    with (folder / "1.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["symbol", "category", "ts_exchange_ms", "u", "best_bid", "bid_size",
                    "best_ask", "ask_size"]  # fmt: skip
    expected = list(brute_force_rows(real_capture))
    assert len(rows) == len(expected) == 2148
    assert rows == expected
