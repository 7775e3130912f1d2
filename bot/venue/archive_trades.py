"""Bybit's daily trade files as ``Trade`` events, and candles built from trades.

https://public.bybit.com/trading/ (perpetuals) and https://public.bybit.com/spot/ .
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

from bot.core.events import E12, BookUpdate, Candle, Event, Side, Trade
from bot.core.instrument import E12_OF_TEXT, UNIT, NumberError, div_half_even, to_decimal, to_e12
from bot.venue.answers import interval_ns, next_open
from bot.venue.archive_text import Place, columns, oldest_first, require_symbol
from bot.venue.payloads import MS

LINEAR_COLUMNS = ("timestamp", "symbol", "side", "size", "price")
SPOT_COLUMNS = ("id", "timestamp", "price", "volume", "side")
_SIDES: dict[str, Side] = {"buy": "Buy", "sell": "Sell", "Buy": "Buy", "Sell": "Sell"}
_FLAGS = {"0": False, "1": True, "false": False, "true": True, "": False}
_EARLIEST_NS = 1_262_304_000 * 10**9  # 2010
_LATEST_NS = 4_102_444_800 * 10**9  # 2100


def read_linear_trades(place: Place, symbol: str, delay_ns: int) -> Iterator[Trade]:
    """A perpetual's day: seconds with a fraction, sizes in the base coin."""
    name = symbol.partition(":")[2]
    sheet = _Sheet(place, LINEAR_COLUMNS, ns_of_seconds)
    for line in sheet.rows():
        try:
            time, listed, side, size, price = sheet.cells(line)
            require_symbol(listed, name)
            stamp, rpi = ns_of_seconds(time), sheet.rpi(line)
            trade = _trade(symbol, stamp, delay_ns, side, price, size, rpi=rpi)
        except (ValueError, ArithmeticError, KeyError) as error:
            place.bad_row(line, error)
            continue
        yield trade


def read_spot_trades(place: Place, symbol: str, delay_ns: int) -> Iterator[Trade]:
    """A pair's day or month: milliseconds, and an ``id`` that counts within the file."""
    last_id = 0
    sheet = _Sheet(place, SPOT_COLUMNS, ns_of_ms)
    for line in sheet.rows():
        try:
            number, time, price, volume, side = sheet.cells(line)
            trade_id, stamp, rpi = int(number), ns_of_ms(time), sheet.rpi(line)
            trade = _trade(symbol, stamp, delay_ns, side, price, volume, rpi=rpi)
        except (ValueError, ArithmeticError, KeyError) as error:
            place.bad_row(line, error)
            continue
        if last_id and trade_id != last_id + 1:
            if trade_id <= last_id:
                place.report("overlap", f"id {trade_id} after {last_id}")
                continue
            place.report("gap", f"id {trade_id} after {last_id}")
        last_id = trade_id
        yield trade


def with_candles(events: Iterable[Event], interval: str, delay_ns: int = 0) -> Iterator[Event]:
    """The events of a merged feed, and behind each bar's last trade its candle.

    A bar is closed by the first event of any symbol at or past its end, as a clock would. A bar
    without trades is flat at the last price; the bar that is open at the end is left out.
    Raises ValueError for an interval without a fixed length.
    """
    length_ns = interval_ns(interval)
    bars: dict[str, _Bar] = {}
    next_close_ns = 0
    for event in events:
        stamp = event.exchange_ts
        while bars and stamp >= next_close_ns:
            for symbol, open_bar in bars.items():
                yield open_bar.closed(symbol, interval, next_close_ns, length_ns, delay_ns)
            next_close_ns += length_ns
        if type(event) is Trade:
            bar = bars.get(event.symbol)
            if not bars:
                next_close_ns = next_open(stamp + 1, interval)
            if bar is None:
                bar = bars[event.symbol] = _Bar(event.price)
            bar.take(event.price, event.qty)
        yield event


def with_sequence(events: Iterable[Event]) -> Iterator[Event]:
    """Number the trades of symbols whose book is in the feed.

    The files have no ``seq`` for trades. In the order of time, a trade lies behind the last book
    and is not in it yet: the book's ``seq`` plus one is the least that its own can have been.
    """
    last_seq: dict[str, int] = {}
    for event in events:
        if type(event) is BookUpdate:
            last_seq[event.symbol] = event.seq
        elif type(event) is Trade and (seq := last_seq.get(event.symbol)) is not None:
            yield Trade(
                event.ts, event.exchange_ts, event.symbol, seq + 1, event.side,
                event.price, event.qty, event.block, event.rpi,
            )  # fmt: skip
            continue
        yield event


def ns_of_seconds(text: str) -> int:
    """``1735689600.0123`` in nanoseconds, exact. Raises ValueError or ArithmeticError."""
    whole, _, fraction = text.partition(".")
    if whole.isdigit() and len(fraction) <= 9 and (fraction.isdigit() or not fraction):
        return _plausible(int(whole) * 10**9 + int(fraction.ljust(9, "0")), text)
    return _plausible(int(Decimal(text).scaleb(9)), text)


def ns_of_ms(text: str) -> int:
    """Milliseconds, with or without a fraction, in nanoseconds. Raises as ``ns_of_seconds``."""
    if text.isdigit():
        return _plausible(int(text) * MS, text)
    return _plausible(int(Decimal(text).scaleb(6)), text)


def _plausible(stamp: int, text: str) -> int:
    if not _EARLIEST_NS <= stamp < _LATEST_NS:
        raise ValueError(f"time {text!r} is not between 2010 and 2100")
    return stamp


class _Sheet:
    """The columns of one file, known from its first line on."""

    def __init__(self, place: Place, wanted: tuple[str, ...], ns_of: Callable[[str], int]) -> None:
        self.header: bytes | None = None
        self.cells: Callable[[bytes], list[str]]
        self.rpi: Callable[[bytes], bool] = _no_flag
        self._place = place
        self._wanted = wanted
        self._ns_of = ns_of
        self._time = wanted.index("timestamp")

    def rows(self) -> Iterator[bytes]:
        """The rows, oldest first, without the header."""
        for line in oldest_first(self._place, self._stamp_of):
            if self.header is None:
                self._take_header(line)
            if line != self.header:
                yield line

    def _take_header(self, line: bytes) -> None:
        self.header = line
        self.cells = columns(self._place, line, self._wanted)
        if b"rpi" in line.lower():
            flag = columns(self._place, line, ("rpi", "rpi"))
            self.rpi = lambda row: _FLAGS[flag(row)[0].lower()]

    def _stamp_of(self, line: bytes) -> int | None:
        if self.header is None:
            self._take_header(line)
            return None
        try:
            return self._ns_of(self.cells(line)[self._time])
        except (ValueError, ArithmeticError):
            return None


def _no_flag(line: bytes) -> bool:
    del line
    return False


def _trade(
    symbol: str, stamp: int, delay_ns: int, side: str, price: str, qty: str, *, rpi: bool
) -> Trade:
    price_e12, qty_e12 = _e12(price), _e12(qty)
    if not (price_e12 and qty_e12):
        raise ValueError(f"price {price!r} and quantity {qty!r} must be positive")
    return Trade(stamp + delay_ns, stamp, symbol, 0, _SIDES[side], price_e12, qty_e12, rpi=rpi)


def _e12(text: str) -> E12:
    """Also what the files' writer made of small numbers: 1e-05."""
    try:
        return E12_OF_TEXT[text]
    except NumberError:
        if "e" not in text.lower():
            raise
        return to_e12(Decimal(text))


class _Bar:
    """One symbol's bar while it is open. Sums are exact: prices and quantities in E12."""

    __slots__ = ("close", "high", "low", "open", "qty", "turnover_e24")

    def __init__(self, price: E12) -> None:
        self._start(price)

    def _start(self, price: E12) -> None:
        self.open = self.high = self.low = self.close = price
        self.qty: E12 = 0
        self.turnover_e24 = 0

    def take(self, price: E12, qty: E12) -> None:
        if not self.qty:
            self.open = self.high = self.low = price
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.qty += qty
        self.turnover_e24 += price * qty

    def closed(
        self, symbol: str, interval: str, close_ns: int, length_ns: int, delay_ns: int
    ) -> Candle:
        """The candle; the next bar starts flat at its close."""
        candle = Candle(
            close_ns + delay_ns,
            close_ns,
            symbol,
            interval,
            close_ns - length_ns,
            to_decimal(self.open),
            to_decimal(self.high),
            to_decimal(self.low),
            to_decimal(self.close),
            to_decimal(self.qty),
            to_decimal(div_half_even(self.turnover_e24, UNIT)),
        )
        self._start(self.close)
        return candle
