"""The REST client against a real HTTP server on this machine, with answers shaped as Bybit's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import pytest

from bot.core.events import Fees, RiskTier
from bot.venue.address import VenueUnreachable
from bot.venue.answers import MalformedAnswer
from bot.venue.limit import RateLimit
from bot.venue.rest import Rest, VenueRefused
from tests.venue.test_answers import LINEAR, MINUTE_MS, SPOT, T0_MS, row

Answer = Callable[[str, dict[str, str]], object]


def ok(result: object, at_ms: int = T0_MS) -> dict:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": at_ms}


@asynccontextmanager
async def serving(answer: Answer, status: int = 200) -> AsyncIterator[str]:
    """Serve ``answer(path, query)``, awaited if it must be, as JSON or as the bytes it gives."""
    talks: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks[writer] = asyncio.current_task()
        while line := await reader.readline():
            while (await reader.readline()).strip():
                pass
            target = urlsplit(line.split()[1].decode())
            said = answer(target.path, dict(parse_qsl(target.query)))
            if asyncio.iscoroutine(said):
                said = await said
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            writer.write(
                b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
            )
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            for writer in talks:
                writer.close()
            await asyncio.gather(*talks.values())


@asynccontextmanager
async def asking(answer: Answer, status: int = 200, **settings) -> AsyncIterator[Rest]:
    async with serving(answer, status) as url:
        rest = Rest(url, **settings)
        try:
            yield rest
        finally:
            await rest.close()


async def test_the_quickest_round_trip_tells_the_offset():
    trips = iter([(0.2, 50), (0.0, 5), (0.2, 90)])

    async def answer(path, query):
        assert path == "/v5/market/time"
        delay_s, behind_s = next(trips)
        await asyncio.sleep(delay_s)
        return ok({"timeNano": str(time.time_ns() - behind_s * 10**9)})

    async with asking(answer) as rest:
        measured = await rest.clock_offset()
    assert measured.offset_ns == pytest.approx(5e9, abs=1e9)
    assert 0 < measured.round_trip_ns < 10**9


async def test_rules_come_from_every_page_in_the_order_asked_for():
    pages = {"": ("page2", "AAAUSDT"), "page2": ("page3", "BTCUSDT"), "page3": ("", "ETHUSDT")}
    asked = []

    def answer(path, query):
        if path == "/v5/market/risk-limit":
            return ok({"list": [tier(query["symbol"], "0.01"), tier(query["symbol"], "0.005")]})
        assert path == "/v5/market/instruments-info"
        asked.append(query)
        if query["category"] == "spot":
            return ok({"category": "spot", "list": [SPOT]})  # spot has no pages
        cursor, symbol = pages[query.get("cursor", "")]
        return ok({"list": [{**LINEAR, "symbol": symbol}], "nextPageCursor": cursor})

    async with asking(answer, now=lambda: 77) as rest:
        rules = await rest.instruments(["linear:ETHUSDT", "spot:BTCUSDT", "linear:BTCUSDT"])
    assert [rule.symbol for rule in rules] == ["linear:ETHUSDT", "spot:BTCUSDT", "linear:BTCUSDT"]
    assert [rule.qty_step for rule in rules] == [
        Decimal("0.001"),
        Decimal("1e-6"),
        Decimal("0.001"),
    ]
    assert {(rule.ts, rule.exchange_ts) for rule in rules} == {(77, T0_MS * 1_000_000)}
    assert [query["category"] for query in asked] == ["linear"] * 3 + ["spot"]
    assert [[tier.limit for tier in rule.tiers] for rule in rules] == [[500, 1000], [], [500, 1000]]


async def test_the_tiers_of_a_perpetual_are_the_venues():
    def answer(path, query):
        if path == "/v5/market/risk-limit":
            # Bybit answers a page of others for a symbol that it does not know.
            return ok({"list": [tier("AAAUSDT", "0.5"), tier("BTCUSDT", "0.005", "")]})
        return ok({"list": [LINEAR]})

    async with asking(answer) as rest:
        (rules,) = await rest.instruments(["linear:BTCUSDT"])
    assert rules.tiers == (RiskTier(Decimal(500), Decimal("0.005"), Decimal("0.01"), Decimal(0)),)


async def test_the_fee_rates_are_the_accounts():
    def answer(path, query):
        assert path == "/v5/account/fee-rate"
        row = {"symbol": query["symbol"], "makerFeeRate": "-0.0001", "takerFeeRate": "0.0004"}
        return ok({"list": [row]})

    async with asking(answer, now=lambda: 77, key=("key", "secret")) as rest:
        assert await rest.fee_rates(["linear:BTCUSDT", "spot:ETHUSDT"]) == [
            Fees(77, category, Decimal("-0.0001"), Decimal("0.0004"), T0_MS * 10**6, symbol)
            for category, symbol in (("linear", "linear:BTCUSDT"), ("spot", "spot:ETHUSDT"))
        ]


@pytest.mark.parametrize("row", [{}, {"symbol": "ETHUSDT"}, {"symbol": "BTCUSDT"}])
async def test_fee_rates_of_another_shape_are_malformed(row):
    async with asking(lambda path, query: ok({"list": [row]}), key=("key", "secret")) as rest:
        with pytest.raises(MalformedAnswer):
            await rest.fee_rates(["linear:BTCUSDT"])


async def test_the_mark_of_a_minute_is_the_open_of_its_bar():
    def answer(path, query):
        assert path == "/v5/market/mark-price-kline"
        assert query["start"] == query["end"] == str(T0_MS)
        return ok({"list": [[str(T0_MS), "65000.5", "65001", "64000", "64500"]]})

    async with asking(answer) as rest:
        assert await rest.mark_at("linear:BTCUSDT", T0_MS * 10**6) == Decimal("65000.5")
    async with asking(lambda path, query: ok({"list": []})) as rest:
        assert await rest.mark_at("linear:BTCUSDT", T0_MS * 10**6) is None
    async with asking(lambda path, query: ok({"list": [["x"]]})) as rest:
        with pytest.raises(MalformedAnswer, match="mark-price-kline of linear:BTCUSDT"):
            await rest.mark_at("linear:BTCUSDT", T0_MS * 10**6)


def tier(name: str, rate: str, deduction: str = "10") -> dict:
    limit = str(100_000 * Decimal(rate))
    initial = str(2 * Decimal(rate))
    return {"id": 1, "symbol": name, "riskLimitValue": limit, "maintenanceMargin": rate,
            "initialMargin": initial, "mmDeduction": deduction}  # fmt: skip


async def test_a_symbol_that_is_not_listed_is_named():
    async with asking(lambda path, query: ok({"list": [LINEAR]})) as rest:
        with pytest.raises(VenueRefused, match="linear:NOPEUSDT, linear:NADAUSDT not listed"):
            await rest.instruments(["linear:BTCUSDT", "linear:NOPEUSDT", "linear:NADAUSDT"])


async def test_a_listing_without_end_is_an_error():
    async with asking(
        lambda path, query: ok({"list": [], "nextPageCursor": "again"}), limit=RateLimit(1000, 5.0)
    ) as rest:
        with pytest.raises(MalformedAnswer, match="no end after 50 pages"):
            await rest.instruments(["linear:BTCUSDT"])


class History:
    """Minute bars of a venue whose clock stands half a minute into the newest."""

    def __init__(self, closed: int) -> None:
        self.opens = [T0_MS + n * MINUTE_MS for n in range(closed + 1)]
        self.limits: list[int] = []

    def __call__(self, path: str, query: dict[str, str]) -> dict:
        assert path == "/v5/market/kline"
        assert (query["category"], query["symbol"], query["interval"]) == ("linear", "BTCUSDT", "1")
        self.limits.append(int(query["limit"]))
        end = int(query.get("end", 10**15))
        upto = [open_ms for open_ms in self.opens if open_ms <= end][-self.limits[-1] :]
        rows = [
            row(open_ms, close=str(1 + self.opens.index(open_ms))) for open_ms in reversed(upto)
        ]
        return ok({"symbol": "BTCUSDT", "list": rows}, self.opens[-1] + MINUTE_MS // 2)


@pytest.mark.parametrize(
    ("closed", "limit"),
    [
        (0, 5),
        (1, 5),
        (50, 0),
        (50, 1),
        (50, 50),
        (50, 300),
        (1500, 999),
        (1500, 1000),
        (2500, 2300),
    ],
)
async def test_candles_are_the_last_closed_bars_oldest_first(closed: int, limit: int):
    history = History(closed)
    async with asking(history, now=lambda: 77) as rest:
        candles = await rest.candles("linear:BTCUSDT", "1", limit)
    wanted = history.opens[:-1][-limit:] if limit else []
    assert [candle.open_ts for candle in candles] == [open_ms * 1_000_000 for open_ms in wanted]
    closes = list(range(1, closed + 1))[closed - len(wanted) :]
    assert [int(candle.close) for candle in candles] == closes
    assert {candle.ts for candle in candles} <= {77}
    assert all(1 <= asked <= 1000 for asked in history.limits)


@pytest.mark.parametrize("code", [10001, 10006, 10016])
async def test_a_refusal_carries_bybits_code_and_message_and_is_not_retried(code: int):
    asked = []

    def answer(path, query):
        asked.append(path)
        return {"retCode": code, "retMsg": "Too many\nvisits!", "result": {}, "time": T0_MS}

    async with asking(answer) as rest:
        with pytest.raises(VenueRefused) as raised:
            await rest.candles("linear:BTCUSDT", "1", 5)
    assert raised.value.code == code
    assert str(raised.value).endswith(f"/v5/market/kline refused with {code}: Too many visits!")
    assert len(asked) == 1


async def test_an_http_error_carries_its_status():
    async with asking(lambda path, query: {}, status=403) as rest:
        with pytest.raises(VenueRefused) as raised:
            await rest.clock_offset()
    assert raised.value.code == 403


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"7", b'{"retCode":0}', b"\xff\xfe"])
async def test_an_answer_of_another_shape_is_malformed(body: bytes):
    async with asking(lambda path, query: body) as rest:
        with pytest.raises(MalformedAnswer):
            await rest.clock_offset()


async def test_an_answer_without_its_time_is_malformed():
    async with asking(lambda path, query: {"retCode": 0, "result": {"list": []}}) as rest:
        with pytest.raises(MalformedAnswer, match="time is None"):
            await rest.candles("linear:BTCUSDT", "1", 5)


async def test_an_unreachable_venue_is_one_line():
    rest = Rest("http://127.0.0.1:9")
    with pytest.raises(VenueUnreachable) as raised:
        await rest.clock_offset()
    await rest.close()
    assert str(raised.value) == "http://127.0.0.1:9 cannot be reached: Connection refused."


async def test_a_venue_that_does_not_answer_in_time_is_unreachable():
    release = asyncio.Event()

    async def answer(path, query):
        await release.wait()
        return ok({})

    async with asking(answer, timeout_s=0.05) as rest:
        with pytest.raises(VenueUnreachable, match="timed out"):
            await rest.clock_offset()
        release.set()


async def test_requests_beyond_the_limit_wait():
    waits = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)
        clock[0] += delay_s

    clock = [0.0]
    limit = RateLimit(2, 5.0, clock=lambda: clock[0], sleep=sleep)
    async with asking(lambda path, query: ok({"timeNano": "1"}), limit=limit) as rest:
        await rest.clock_offset(rounds=5)
    assert waits == [5.0, 5.0]
