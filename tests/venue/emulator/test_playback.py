"""A capture played again: the same frames to those who were there, a proper start to the late."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard

from bot.venue.emulator import Venue, VenueError
from bot.venue.emulator.playback import Playback
from tests.venue.emulator import oracle
from tests.venue.emulator.sockets import running

MS = 1_000_000
BOOK = "orderbook.50.BTCUSDT"


def book_frame(kind: str, u: int, bids: list[list[str]], asks: list[list[str]]) -> dict:
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": u, "seq": 10 * u}
    return {"topic": BOOK, "type": kind, "ts": 1000 + u, "data": data, "cts": 999 + u}


FRAMES = [
    (0.0, "c1", book_frame("snapshot", 5, [["10", "1"], ["9", "2"]], [["11", "3"]])),
    (0.1, "c1", {"topic": "tickers.BTCUSDT", "type": "snapshot",
                 "data": {"symbol": "BTCUSDT", "lastPrice": "10", "markPrice": "10.5"},
                 "cs": 1, "ts": 1}),
    (0.2, "c1", book_frame("delta", 6, [["10", "0"]], [["11", "4"], ["12", "1"]])),
    (0.3, "c1", {"topic": "tickers.BTCUSDT", "type": "delta",
                 "data": {"symbol": "BTCUSDT", "lastPrice": "11"}, "cs": 2, "ts": 2}),
    (0.15, "c2", {"topic": "kline.1.BTCUSDT", "type": "snapshot", "ts": 3, "data": [
        {"start": 60000, "end": 119999, "interval": "1", "open": "1", "close": "2", "high": "3",
         "low": "1", "volume": "4", "turnover": "8", "confirm": True, "timestamp": 3}]}),
]  # fmt: skip


def write(path: Path, lines: list[dict], *, packed: bool) -> Path:
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    if packed:  # two zstd frames, the cut in the middle of a line
        compressor = zstandard.ZstdCompressor()
        body = compressor.compress(body[:300]) + compressor.compress(body[300:])
    path.write_bytes(body)
    return path


def a_capture(folder: Path, *, packed: bool = True) -> Path:
    instruments = {"result": {"category": "linear", "list": [{"symbol": "BTCUSDT", "x": 1}]}}
    lines = [
        {"t": "header"},
        {"t": "http", "conn": "h", "ts": 1.0, "url": "https://x/v5/market/instruments-info?a",
         "data": json.dumps(instruments)},
        {"t": "connect", "conn": "c1", "ts": 1.0, "addr": "wss://x/v5/public/linear"},
        {"t": "connect", "conn": "c2", "ts": 1.0, "addr": "wss://x/v5/public/spot"},
        {"t": "recv", "conn": "c1", "ts": 1.1, "data": '{"success":true,"op":"subscribe"}'},
    ]  # fmt: skip
    lines += [
        {"t": "recv", "conn": conn, "ts": 2.0 + after, "data": json.dumps(message)}
        for after, conn, message in FRAMES
    ]
    return write(folder / "capture.jsonl", lines, packed=packed)


@pytest.mark.parametrize("packed", [True, False])
def test_frames_come_in_time_order_at_their_recorded_distances_from_the_first_subscription(
    tmp_path, packed
):
    playback = Playback(a_capture(tmp_path, packed=packed))
    assert playback.advance(500 * MS) == [], "nobody has subscribed yet"
    playback.subscribe(("linear", BOOK))
    due = []
    for at_ms in range(1000, 1400, 50):
        due += [(at_ms - 1000, *topic) for topic, _ in playback.advance(at_ms * MS)]
    assert due == [
        (0, "linear", BOOK),
        (100, "linear", "tickers.BTCUSDT"),
        (150, "spot", "kline.1.BTCUSDT"),
        (200, "linear", BOOK),
        (300, "linear", "tickers.BTCUSDT"),
    ]
    assert playback.finished
    assert playback.advance(5000 * MS) == []


def test_texts_are_those_of_the_recording(tmp_path):
    playback = Playback(a_capture(tmp_path))
    playback.subscribe(("linear", BOOK))
    texts = {text for _, text in [*playback.advance(0), *playback.advance(10**10)]}
    assert texts == {json.dumps(message) for _, _, message in FRAMES}


def test_a_late_subscriber_gets_the_book_and_the_ticker_as_they_are_by_then(tmp_path):
    playback = Playback(a_capture(tmp_path))
    assert playback.subscribe(("linear", BOOK)) == []
    playback.advance(0)
    playback.advance(10**10)
    (text,) = playback.subscribe(("linear", BOOK))
    message = json.loads(text)
    assert list(message) == ["topic", "type", "ts", "data", "cts"]
    assert message["type"] == "snapshot"
    assert message["data"] == {
        "s": "BTCUSDT",
        "b": [["9", "2"]],
        "a": [["11", "4"], ["12", "1"]],
        "u": 6,
        "seq": 60,
    }
    (text,) = playback.subscribe(("linear", "tickers.BTCUSDT"))
    assert json.loads(text)["type"] == "snapshot"
    assert json.loads(text)["data"] == {
        "symbol": "BTCUSDT",
        "lastPrice": "11",
        "markPrice": "10.5",
    }


def test_rest_answers_with_what_was_recorded(tmp_path):
    playback = Playback(a_capture(tmp_path))
    routes = playback.routes()
    info = routes["/v5/market/instruments-info"]
    assert info({"category": "linear"})["list"] == [{"symbol": "BTCUSDT", "x": 1}]
    kline = {"category": "spot", "symbol": "BTCUSDT", "interval": "1"}
    assert routes["/v5/market/kline"](kline)["list"] == []
    playback.subscribe(("linear", BOOK))
    playback.advance(0)
    playback.advance(10**10)
    assert routes["/v5/market/kline"](kline)["list"] == [["60000", "1", "3", "1", "2", "4", "8"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no received frames"),
        (b"hello\n", "line 1: not a v5 capture"),
        (b'{"t":"recv","conn":"c","ts":1,"data":"{\\"topic\\":\\"x\\"}"}\n', "line 1: not a v5"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 30, "damaged"),
    ],
)
def test_a_file_that_is_no_capture_is_refused_with_its_line(tmp_path, content, words):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(VenueError, match=words):
        Venue(capture=path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(VenueError, match=r"nowhere\.jsonl: cannot be read: No such file"):
        Venue(capture=tmp_path / "nowhere.jsonl")


async def test_a_restart_of_a_recorded_book_is_refused(tmp_path):
    async with running(Venue(capture=a_capture(tmp_path))) as local:
        client = await local.connect()
        await client.ask(op="subscribe", args=[BOOK])
        assert "a capture's cannot be" in (await local.fault(fault="restart"))["error"]


def test_the_real_capture_plays_without_a_gap_and_starts_late_subscribers_well(real_capture):
    playback = Playback(real_capture)
    topic = ("linear", "orderbook.200.BTCUSDT")
    playback.subscribe(topic)
    early, late = oracle.Book(), oracle.Book()
    frames = 0
    for at_ms in range(0, 50_000, 10):
        for sent, text in playback.advance(at_ms * MS):
            frames += 1
            if sent == topic:
                early.read(text)
                early.check_uncrossed()
                if late.u:
                    late.read(text)
        if at_ms == 20_000:
            (text,) = playback.subscribe(topic)
            late.read(text)
            assert json.loads(text)["data"]["b"] == [
                [f"{price:.2f}", f"{size:.3f}"] for price, size in early.sorted_bids()
            ]
    assert playback.finished
    assert frames == 3203
    assert early.deltas == 413
    assert late.deltas > 100
    assert (late.bids, late.asks) == (early.bids, early.asks)
    info = playback.routes()["/v5/market/instruments-info"]
    assert len(info({"category": "linear"})["list"]) == 800
    (btc,) = info({"category": "spot", "symbol": "BTCUSDT"})["list"]
    assert btc["priceFilter"]["tickSize"] == "0.1"


async def test_the_real_capture_plays_over_a_socket(real_capture):
    async with running(Venue(capture=real_capture)) as local:
        client = await local.connect("spot")
        await client.ask(op="subscribe", args=["orderbook.200.ETHUSDT", "tickers.ETHUSDT"])
        book = oracle.Book()
        while book.deltas < 10:
            text = await client.find(lambda text: '"orderbook' in text)
            book.read(text)
            book.check_uncrossed()
        refused = await client.ask(op="subscribe", args=["orderbook.50.ETHUSDT"])
        assert refused["ret_msg"] == "error:handler not found,topic:orderbook.50.ETHUSDT"
