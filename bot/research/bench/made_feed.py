"""A made-up Bybit feed for benches: one symbol, real frame shapes, a consistent 50-level book.

Three messages of four are order-book deltas of about 7.5 levels, the fourth is a trade. The mid
wanders, so that a market maker has to follow.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random

from msgspec import Struct

from bot.core.events import Connected, Fees, Frame, Input, Instrument

SYMBOL = "linear:BTCUSDT"
CONN = "linear.1"
STEP_NS = 12_200_000
"""Market time between messages: a requote every 100 ms comes every ninth message."""
_START_NS = 1_786_310_818_130_000_000
_LEVELS = 50


class MadeFeed(Struct):
    """The inputs of a feed, and what they hold."""

    opening: list[Input]
    frames: list[Frame]
    levels: int
    books: int

    @property
    def bytes_per_message(self) -> float:
        return sum(len(frame.data) for frame in self.frames) / len(self.frames)


def opening() -> list[Input]:
    """What is known before the first frame: rules, fees, a connection."""
    rules = Instrument(
        0, 0, SYMBOL, "BTC", "USDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5),
        max_leverage=Decimal(100),
    )  # fmt: skip
    fees = Fees(0, "linear", Decimal("0.0002"), Decimal("0.00055"))
    return [rules, fees, Connected(0, CONN, "linear")]


def make(messages: int, seed: int = 7) -> MadeFeed:
    """The same ``messages`` frames for the same seed."""
    return Maker(seed).feed(messages)


class Maker:
    """Prices are in ticks of 0.1, quantities in steps of 0.001. The spread is one tick."""

    def __init__(self, seed: int, name: str = "BTCUSDT", step_ns: int = STEP_NS) -> None:
        self.levels = self.books = 0
        self._name = name
        self._step_ns = step_ns
        self._random = Random(seed)  # noqa: S311 - a test feed
        self._bid = 651_000
        self._bids = {self._bid - i: self._qty() for i in range(_LEVELS)}
        self._asks = {self._bid + 1 + i: self._qty() for i in range(_LEVELS)}
        self._u = self._seq = 1000
        self._ts = _START_NS

    def feed(self, messages: int) -> MadeFeed:
        frames = [self.snapshot()]
        while len(frames) < messages:
            frames.append(self.next())
        return MadeFeed(opening(), frames, self.levels, self.books)

    def snapshot(self) -> Frame:
        """The whole book, with the next ``u``."""
        return self._book("snapshot", [*self._bids.items()], [*self._asks.items()])

    def next(self) -> Frame:
        """A trade or a delta."""
        self._ts += self._step_ns
        self._seq += self._random.randint(1, 9)
        if self._random.random() < 0.25:
            return self._trade()
        bids, asks = self._changes()
        self.levels += len(bids) + len(asks)
        self.books += 1
        return self._book("delta", bids, asks)

    def _qty(self) -> int:
        return self._random.randint(1, 4000)

    def _changes(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Some levels change; now and then the whole book moves by a tick."""
        random = self._random
        bids: dict[int, int] = {}
        asks: dict[int, int] = {}
        if random.random() < 0.25:
            self._shift(random.choice((-1, 1)), bids, asks)
        for _ in range(random.randint(5, 9)):
            distance = min(int(random.expovariate(0.12)), _LEVELS - 1)
            if random.random() < 0.5:
                bids[self._bid - distance] = self._qty()
            else:
                asks[self._bid + 1 + distance] = self._qty()
        self._bids.update({price: qty for price, qty in bids.items() if qty})
        self._asks.update({price: qty for price, qty in asks.items() if qty})
        return [*bids.items()], [*asks.items()]

    def _shift(self, by: int, bids: dict[int, int], asks: dict[int, int]) -> None:
        """The best level of one side is gone, the other side steps in; the far ends follow."""
        old = self._bid
        self._bid += by
        if by > 0:
            gone, come, bottom, top = old + 1, old + 1, old - _LEVELS + 1, old + 1 + _LEVELS
            del self._asks[gone], self._bids[bottom]
            asks[gone], bids[bottom] = 0, 0
            bids[come], asks[top] = self._qty(), self._qty()
        else:
            gone, come, bottom, top = old, old, old - _LEVELS, old + _LEVELS
            del self._bids[gone], self._asks[top]
            bids[gone], asks[top] = 0, 0
            asks[come], bids[bottom] = self._qty(), self._qty()

    def _book(self, kind: str, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> Frame:
        self._u += 1
        ms = self._ts // 1_000_000
        text = (
            f'{{"topic":"orderbook.50.{self._name}","type":"{kind}","ts":{ms},"data":{{"s":"{self._name}",'
            f'"b":{_levels(bids)},"a":{_levels(asks)},"u":{self._u},"seq":{self._seq}}},'
            f'"cts":{ms - 3}}}'
        )
        return Frame(self._ts, CONN, text.encode())

    def _trade(self) -> Frame:
        side = self._random.choice(("Buy", "Sell"))
        price = self._bid + 1 if side == "Buy" else self._bid
        ms = self._ts // 1_000_000
        tick = self._random.choice(("ZeroPlusTick", "PlusTick", "MinusTick"))
        identity = f"a9188a0a-82bc-50de-be60-{self._random.getrandbits(48):012x}"
        text = (
            f'{{"topic":"publicTrade.{self._name}","type":"snapshot","ts":{ms},'
            f'"data":[{{"T":{ms - 2},'
            f'"s":"{self._name}","S":"{side}","v":"{self._random.randint(1, 900) / 1000:.3f}",'
            f'"p":"{price / 10:.2f}","L":"{tick}","i":"{identity}","BT":false,"RPI":false,'
            f'"seq":{self._seq}}}]}}'
        )
        return Frame(self._ts, CONN, text.encode())


def _levels(levels: list[tuple[int, int]]) -> str:
    rows = (f'["{price / 10:.2f}","{qty / 1000:.3f}"]' if qty else f'["{price / 10:.2f}","0"]'
            for price, qty in levels)  # fmt: skip
    return f"[{','.join(rows)}]"
