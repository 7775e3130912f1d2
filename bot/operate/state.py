"""How a run stands at one moment: a frozen picture that dashboard, metrics and `bot top` show.

Money, prices and quantities are exact decimals as text, times integer ns, durations ns. What a
source cannot know (the ledger knows no queues) is None or empty.
"""

from __future__ import annotations

from msgspec import Struct


class Latency(Struct, frozen=True):
    """Durations counted since the process began. ``buckets``: (upper edge in ns, count)."""

    p50_ns: int
    p99_ns: int
    count: int
    buckets: list[tuple[int, int]]


class Money(Struct, frozen=True):
    """The account in USDT; ``net`` = realized - fees - funding. ``wallet`` and what depends on a
    price are None where they are not known."""

    realized_pnl: str
    fees: str
    funding: str
    net_pnl: str
    unrealized_pnl: str | None = None
    equity: str | None = None
    wallet: str | None = None


class Holding(Struct, frozen=True):
    """A symbol that was traded. ``position`` is signed, in coins."""

    symbol: str
    position: str
    average_entry: str | None
    realized_pnl: str
    fees: str
    funding: str
    price: str | None = None
    """What the position is valued at: the mark, else the mid."""
    unrealized_pnl: str | None = None


class OpenOrder(Struct, frozen=True):
    """An order that may still fill. ``state`` is travelling or resting; ``ahead`` is the venue's
    quantity in front of it, None where the level was never seen."""

    order_id: int
    ts: int
    strategy: str
    symbol: str
    side: str
    price: str | None
    qty: str
    leaves: str
    state: str
    ahead: str | None = None
    ahead_at_arrival: str | None = None
    displayed: str | None = None


class Quote(Struct, frozen=True):
    """A symbol's market. ``is_live``: its book is known without a gap."""

    symbol: str
    is_live: bool
    bid: str | None
    ask: str | None
    last: str | None
    mark: str | None
    funding_rate: str | None
    next_funding_ts: int | None
    heard_ago_ns: int | None
    """Since its last book or trade."""


class Expectation(Struct, frozen=True):
    """A model's newest answer for a symbol: (horizon in ns, expected log return, P(up), quantiles)
    for each horizon."""

    symbol: str
    model: str
    read_ts: int
    price: float
    trained: bool
    rebuilt: bool
    horizons: list[tuple[int, float, float, tuple[float, ...]]]


class Quality(Struct, frozen=True):
    """How good a model's nearest horizon has been lately, over ``n`` answers whose end is known.

    ``ic`` is the Spearman correlation of expected and realized return; ``calibration`` is (mean
    P(up), share that went up, answers) for each tenth of P(up); ``calibration_error`` their mean
    absolute distance weighted by answers; ``drift`` the population stability index of P(up)
    between the first answers and the last. None where there are too few.
    """

    symbol: str
    model: str
    horizon_ns: int
    trained: bool
    n: int
    ic: float | None
    hit_rate: float | None
    calibration_error: float | None
    drift: float | None
    calibration: list[tuple[float, float, int]]
    ic_over_time: list[tuple[int, float]]


class Feed(Struct, frozen=True):
    """One connection to the venue."""

    conn: str
    state: str
    frames: int
    bytes: int
    connects: int
    disconnects: int
    resubscribes: int
    refused: int


class Queues(Struct, frozen=True):
    """What waits: inputs, steps not yet in the ledger, events before the models."""

    inbox: int
    inbox_longest: int
    ledger: int
    inference: int = 0


class Cache(Struct, frozen=True):
    """The KV cache of all models."""

    budget_bytes: int
    used_bytes: int
    used_blocks: int
    sequences: int
    hits: int
    misses: int
    evictions: int
    refusals: int


class Inference(Struct, frozen=True):
    """The models' thread. ``latency`` is from an event's ``ts`` to its prediction; ``drift`` how
    far a model's inputs are from those it learned from (population stability index), where it can
    tell."""

    tokens: int
    predictions: int
    waiting: int
    overflows: int
    lost_events: int
    latency: Latency
    cache: Cache
    drift: dict[str, float] = {}


class Book(Struct, frozen=True):
    """The best levels of one book as (price, quantity), best first; floats, to be drawn."""

    symbol: str
    ts: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]


class LogLine(Struct, frozen=True):
    """A line of the log; ``number`` counts the lines since the process began."""

    number: int
    level: str
    text: str


class State(Struct, frozen=True):
    """The whole picture. ``is_live``: it is taken from the running bot itself, not the ledger."""

    run: str
    instance: str
    mode: str
    status: str
    is_live: bool
    ts: int
    started_ts: int
    trading: str
    """active, reducing or halted; "" where it is not known."""
    symbols: list[str]
    models: list[str]
    untrained: list[str]
    position: int
    facts: int
    committed_facts: int
    counts: dict[str, int]
    money: Money
    holdings: list[Holding]
    orders: list[OpenOrder]
    open_gaps: list[str]
    """Symbols whose book is unknown now."""
    quotes: list[Quote] = []
    expectations: list[Expectation] = []
    feeds: list[Feed] = []
    feed_latency: Latency | None = None
    loop_lag: Latency | None = None
    queues: Queues | None = None
    inference: Inference | None = None
    book: Book | None = None
