"""Bybit's REST, through pybit in a thread: the rules, the clock, the fee rates and the history.

The answers are read in ``answers.py``. Importing this file loads pybit and requests (0.2 s).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import requests
from msgspec.structs import replace
from pybit.exceptions import FailedRequestError, InvalidRequestError
from pybit.unified_trading import HTTP

from bot.core.errors import PlainError
from bot.core.events import Candle, ClockOffset, Fees, FundingRate, Instrument
from bot.core.terms import RiskTier
from bot.venue.address import VenueUnreachable, cause_of
from bot.venue.answers import (
    MalformedAnswer,
    parse_bars,
    parse_candles,
    parse_fee_rates,
    parse_funding,
    parse_instruments,
    parse_mark,
    parse_server_ns,
    parse_tiers,
)
from bot.venue.limit import RateLimit
from bot.venue.payloads import MS

PAGE_MAX = 1000
"""Entries that Bybit gives in one answer."""
FUNDING_PAGE_MAX = 200
PAGES_MAX = 50
"""A listing longer than this does not end; Bybit's longest has two pages."""

_log = logging.getLogger(__name__)


class VenueRefused(PlainError):
    """The venue answered no; ``code`` is Bybit's retCode or the HTTP status."""

    def __init__(self, request: str, code: int, message: str) -> None:
        super().__init__(f"{request} refused with {code}: {' '.join(message.split())}")
        self.code = code


class Rest:
    """Bybit's public REST for one event loop. ``now`` stamps what it returns.

    ``key`` is an API key and its secret, for the account's fee rates; a key that may only read is
    enough. Every method raises VenueUnreachable, VenueRefused or MalformedAnswer. The default
    limit is a tenth of Bybit's 600 requests in 5 s per IP
    (https://bybit-exchange.github.io/docs/v5/rate-limit).
    """

    def __init__(
        self,
        base_url: str,
        *,
        now: Callable[[], int] = time.time_ns,
        timeout_s: float = 10.0,
        limit: RateLimit | None = None,
        key: tuple[str, str] | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._now = now
        self._limit = limit or RateLimit(60, 5.0)
        self._session = _session(self._base_url, timeout_s, key)
        self.has_key = key is not None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rest")

    async def clock_offset(self, rounds: int = 3) -> ClockOffset:
        """Local clock minus exchange clock, from the quickest of ``rounds`` round trips.

        The venue's stamp is taken as made halfway, so the error is at most half that trip.
        """
        trips = [await self._timed_server_ns() for _ in range(rounds)]
        sent, received, server = min(trips, key=lambda trip: trip[1] - trip[0])
        offset_ns = (sent + received) // 2 - server
        return ClockOffset(self._now(), offset_ns, round_trip_ns=received - sent)

    async def instruments(self, symbols: Sequence[str]) -> list[Instrument]:
        """The rules of the symbols ("linear:BTCUSDT"), in their order; a perpetual's with tiers."""
        found: dict[str, Instrument] = {}
        for category in dict.fromkeys(symbol.partition(":")[0] for symbol in symbols):
            for instrument in await self._listing(category, symbols):
                found[instrument.symbol] = instrument
        missing = [symbol for symbol in symbols if symbol not in found]
        if missing:
            request = f"{self._base_url}/v5/market/instruments-info"
            raise VenueRefused(request, 0, f"{', '.join(missing)} not listed")
        return [
            replace(found[symbol], tiers=await self._tiers(symbol))
            if symbol.startswith("linear:")
            else found[symbol]
            for symbol in symbols
        ]

    async def fee_rates(self, symbols: Sequence[str]) -> list[Fees]:
        """What the key's account pays for each symbol, in their order. Needs a key."""
        rates: list[Fees] = []
        for symbol in symbols:
            category, _, name = symbol.partition(":")
            call = self._session.get_fee_rates
            answer = await self._get("account/fee-rate", call, category=category, symbol=name)
            rates.append(parse_fee_rates(symbol, answer["result"], self._now(), _stamp(answer)))
        return rates

    async def candles(self, symbol: str, interval: str, limit: int) -> list[Candle]:
        """The last ``limit`` closed bars, oldest first; fewer where the history is shorter."""
        category, _, name = symbol.partition(":")
        query: dict[str, Any] = {"category": category, "symbol": name, "interval": interval}
        candles: list[Candle] = []
        while len(candles) < limit:
            # One more than wanted: the newest bar is still open.
            query["limit"] = min(limit - len(candles) + 1, PAGE_MAX)
            answer = await self._get("kline", self._session.get_kline, **query)
            page = parse_candles(symbol, interval, answer["result"], self._now(), _stamp(answer))
            older = [bar for bar in page if not candles or bar.open_ts < candles[0].open_ts]
            if not older:
                break
            candles = older + candles
            query["end"] = older[0].open_ts // MS - 1
        return candles[-limit:] if limit > 0 else []

    async def candles_between(
        self, symbol: str, interval: str, start_ts: int, end_ts: int
    ) -> list[Candle]:
        """The closed bars that open in [start, end), oldest first.

        ``end`` lies at most PAGE_MAX bars after ``start``, so that it is one request.
        """
        category, _, name = symbol.partition(":")
        answer = await self._get(
            "kline",
            self._session.get_kline,
            category=category,
            symbol=name,
            interval=interval,
            start=start_ts // MS,
            end=end_ts // MS - 1,
            limit=PAGE_MAX,
        )
        page = parse_candles(symbol, interval, answer["result"], self._now(), _stamp(answer))
        return [bar for bar in page if start_ts <= bar.open_ts < end_ts]

    async def funding_between(self, symbol: str, start_ts: int, end_ts: int) -> list[FundingRate]:
        """The rates settled in [start, end), oldest first, in as many requests as it takes."""
        category, _, name = symbol.partition(":")
        rates: list[FundingRate] = []
        for _ in range(PAGES_MAX):
            last_ms = (rates[0].funding_ts if rates else end_ts) // MS - 1
            if last_ms < start_ts // MS:
                return rates
            answer = await self._get(
                "market/funding/history",
                self._session.get_funding_rate_history,
                category=category,
                symbol=name,
                startTime=-(-start_ts // MS),
                endTime=last_ms,
                limit=FUNDING_PAGE_MAX,
            )
            page = parse_funding(symbol, answer["result"], self._now())
            older = [one for one in page if one.funding_ts // MS <= last_ms]
            if not older:
                return rates
            rates = older + rates
        raise MalformedAnswer(f"funding history of {symbol}: no end after {PAGES_MAX} pages")

    async def mark_at(self, symbol: str, ts: int) -> Decimal | None:
        """The mark price at a whole minute, None where the venue has none of then."""
        category, _, name = symbol.partition(":")
        answer = await self._get(
            "mark-price-kline",
            self._session.get_mark_price_kline,
            category=category,
            symbol=name,
            interval="1",
            start=ts // MS,
            end=ts // MS,
            limit=1,
        )
        return parse_mark(symbol, answer["result"], ts)

    async def listed_since(self, symbol: str) -> int:
        """When the symbol's oldest weekly bar opens, in ns; 0 where it has none."""
        category, _, name = symbol.partition(":")
        query = {"category": category, "symbol": name, "interval": "W", "limit": PAGE_MAX}
        answer = await self._get("kline", self._session.get_kline, **query)
        bars = parse_bars(symbol, "W", answer["result"])
        return bars[0].open_ts if bars else 0

    async def server_ns(self) -> int:
        """The venue's clock."""
        return (await self._timed_server_ns())[2]

    async def close(self) -> None:
        """Close the connections; a request under way ends by its timeout."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._session.client.close()

    async def _listing(self, category: str, wanted: Sequence[str]) -> list[Instrument]:
        listed: list[Instrument] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            query = {"category": category, "limit": PAGE_MAX, "cursor": cursor or None}
            answer = await self._get(
                "instruments-info", self._session.get_instruments_info, **query
            )
            result = answer["result"]
            listed += parse_instruments(
                category, result, self._now(), _stamp(answer), wanted=wanted
            )
            cursor = result.get("nextPageCursor") or ""
            if not cursor:
                return listed
        raise MalformedAnswer(f"instruments-info of {category}: no end after {PAGES_MAX} pages")

    async def _tiers(self, symbol: str) -> tuple[RiskTier, ...]:
        category, _, name = symbol.partition(":")
        call = self._session.get_risk_limit
        answer = await self._get("risk-limit", call, category=category, symbol=name)
        return parse_tiers(symbol, answer["result"])

    async def _timed_server_ns(self) -> tuple[int, int, int]:
        def trip() -> tuple[int, dict[str, Any], int]:
            sent = time.time_ns()
            answer = self._session.get_server_time()
            return sent, answer, time.time_ns()

        sent, answer, received = await self._in_thread("time", trip)
        return sent, received, parse_server_ns(_checked("time", answer)["result"])

    async def _get(
        self, path: str, call: Callable[..., dict[str, Any]], **query: Any
    ) -> dict[str, Any]:
        return _checked(path, await self._in_thread(path, lambda: call(**query)))

    async def _in_thread(self, path: str, call: Callable[[], Any]) -> Any:
        await self._limit.wait()
        url = f"{self._base_url}/v5/{path if '/' in path else f'market/{path}'}"
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except InvalidRequestError as error:
            raise VenueRefused(url, error.status_code, error.message) from error
        except FailedRequestError as error:
            if error.status_code == 409:  # pybit's word for an answer that is not JSON
                raise MalformedAnswer(f"{url}: the answer is not JSON") from error
            raise VenueRefused(url, error.status_code, error.message) from error
        except (AttributeError, KeyError, TypeError) as error:
            # pybit takes for granted that the answer is an object with a retMsg
            raise MalformedAnswer(f"{url}: the answer is not an object of Bybit's") from error
        except requests.RequestException as error:
            raise VenueUnreachable(self._base_url, _network_cause(error)) from error


def _session(base_url: str, timeout_s: float, key: tuple[str, str] | None) -> HTTP:
    # One try: pybit's retries sleep in the thread. A code that Bybit does not have keeps its own
    # retry codes out, which would hide the reason of a refusal.
    api_key, api_secret = key or (None, None)
    session = HTTP(
        timeout=timeout_s,
        max_retries=1,
        retry_codes={-1},
        api_key=api_key,
        api_secret=api_secret,
    )
    session.endpoint = base_url
    session.logger = _log
    if urlsplit(base_url).hostname in ("127.0.0.1", "::1", "localhost"):
        session.client.trust_env = False  # a proxy does not lead to this machine
    return session


def _checked(path: str, answer: Any) -> dict[str, Any]:
    if not isinstance(answer, Mapping) or not isinstance(answer.get("result"), Mapping):
        raise MalformedAnswer(f"{path}: no result in the answer")
    return dict(answer)


def _stamp(answer: Mapping[str, Any]) -> int:
    """When the venue answered, in ns."""
    stamp = answer.get("time")
    if not isinstance(stamp, int):
        raise MalformedAnswer(f"an answer's time is {stamp!r}, not milliseconds")
    return stamp * MS


def _network_cause(error: BaseException) -> str:
    """The innermost reason: requests and urllib3 wrap it in several of their own."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return cause_of(error) if isinstance(error, Exception) else repr(error)
