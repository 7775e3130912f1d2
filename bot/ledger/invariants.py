"""What must hold in a ledger, checked row by row; a broken law names the row that breaks it.

The laws: fact numbers follow each other and make the run's digest; every fact has exactly its
postings, and they sum to zero; fills belong to orders, never exceed them, and lead to the stated
position and profit; funding is paid once; what stands beside a fact belongs to one; gaps end
after they began; equity's wallet is what was posted; snapshots are whole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Table, select

from bot.core.events import Accepted, Fact, Fill, FundingPaid, Liquidated, Order
from bot.core.instrument import amount, to_decimal, to_e12
from bot.ledger import queries, tables
from bot.ledger.database import LedgerError
from bot.ledger.digest import plain
from bot.ledger.facts import StoredFact, digest_of, read_facts
from bot.ledger.folds import Position
from bot.ledger.postings import DEPOSIT, deposits_of, transfers_of
from bot.ledger.rows import TABLE_OF, posting_rows
from bot.ledger.snapshots import stored_snapshots


class BrokenLedger(LedgerError):
    """A law does not hold; the text names the table and the row."""


def check_run(connection: Connection, run_id: str) -> int:
    """Every law over one run; how many facts that were. Raises BrokenLedger for the first break."""
    facts = _Facts(connection, run_id)
    for law in LAWS:
        law(connection, run_id)
    run = queries.run(connection, run_id)
    for stored in read_facts(connection, run_id):
        facts.take(stored)
    if run["facts"] != facts.count:
        _break("runs", run_id, f"says {run['facts']} facts, the tables have {facts.count}")
    digest = digest_of(connection, run_id).hexdigest()
    if run["digest"] != digest:
        _break("runs", run_id, f"its digest is {run['digest']}, its facts make {digest}")
    facts.end()
    _snapshots_are_whole(connection, run_id)
    return facts.count


def _break(table: str, row: object, why: str) -> None:
    raise BrokenLedger(f"{table} {row}: {why}")


class _Facts:
    """The laws of facts in their order, and of the rows keyed by them."""

    def __init__(self, connection: Connection, run_id: str) -> None:
        self.count = 0
        self._run_id = run_id
        self._orders: dict[int, Decimal] = {}
        self._filled: dict[int, Decimal] = defaultdict(Decimal)
        self._positions: dict[str, Position] = defaultdict(Position)
        self._held: dict[str, Decimal] = defaultdict(Decimal)
        self._funded: dict[tuple[str, int], int] = {}
        self._fills = 0
        self._postings = _by_n(connection, tables.postings, run_id)
        self._states = _by_n(connection, tables.positions, run_id)

    def take(self, stored: StoredFact) -> None:
        n, position, fact = stored
        table = TABLE_OF[type(fact)].name
        if n != self.count:
            _break(table, f"n {n}", f"follows n {self.count - 1}: facts are missing or doubled")
        self.count += 1
        match fact:
            case Order():
                self._orders[fact.id] = fact.qty
            case Accepted():
                self._orders[fact.order_id] = fact.qty
            case Fill():
                self._fill(n, fact)
            case FundingPaid():
                self._funding(n, fact)
            case Liquidated():
                self._liquidated(n, fact)
        self._posted(n, position, fact)
        self._state(n, fact)

    def end(self) -> None:
        """Rows that no fact explains."""
        for table, left in (("postings", self._postings), ("positions", self._states)):
            left.pop(DEPOSIT, None)
            for n in left:
                _break(table, f"n {n}", "stands beside no fact of its kind")

    def _fill(self, n: int, fill: Fill) -> None:
        row = f"n {n} (fill {fill.id})"
        self._fills += 1
        if fill.id != self._fills:
            _break("fills", row, f"fill {self._fills} should come here")
        if fill.order_id not in self._orders:
            _break("fills", row, f"of order {fill.order_id}, which there is not")
        filled = self._filled[fill.order_id] = self._filled[fill.order_id] + fill.qty
        left = self._orders[fill.order_id] - filled
        if left < 0 or fill.leaves != left:
            _break("fills", row, f"leaves {fill.leaves} of order {fill.order_id}, {left} are left")
        self._moved(row, fill)

    def _moved(self, row: str, fill: Fill) -> None:
        """Position and profit, folded again from the executions."""
        book = self._positions[fill.symbol]
        before = book.realized
        book.trade(fill.side, fill.price, fill.qty)
        is_spot = fill.symbol.startswith("spot:")
        held = self._held[fill.symbol] + (fill.qty if fill.side == "Buy" else -fill.qty)
        if is_spot and fill.side == "Buy":
            held -= fill.fee
        if fill.position != held:
            _break("fills", row, f"leads to a position of {held}, not {fill.position}")
        self._held[fill.symbol] = held
        if not is_spot and amount(book.realized - before) != fill.realized_pnl:
            profit = amount(book.realized - before)
            _break("fills", row, f"realizes {profit}, not {fill.realized_pnl}")

    def _funding(self, n: int, paid: FundingPaid) -> None:
        key = (paid.symbol, paid.funding_ts)
        if key in self._funded:
            _break("funding_paid", f"n {n}", f"was paid at n {self._funded[key]} already")
        self._funded[key] = n
        if paid.position != self._held[paid.symbol]:
            held = self._held[paid.symbol]
            _break("funding_paid", f"n {n}", f"on a position of {paid.position}, held was {held}")

    def _liquidated(self, n: int, taken: Liquidated) -> None:
        held = self._held[taken.symbol]
        if taken.position != held:
            _break("liquidations", f"n {n}", f"of a position of {taken.position}, held was {held}")
        self._held[taken.symbol] = Decimal(0)
        self._positions[taken.symbol].hold(Decimal(0))

    def _posted(self, n: int, position: int, fact: Fact) -> None:
        made = posting_rows(self._run_id, n, position, fact.ts, transfers_of(fact))
        found = [
            (*row[:-1], plain(row[-1]) if row[-1] is not None else None)
            for row in self._postings.pop(n, [])
        ]
        for leg, (ours, theirs) in enumerate(zip(made, found, strict=False)):
            if ours != theirs:
                _break("postings", f"n {n} leg {leg}", f"is {theirs[3:]}, should be {ours[3:]}")
        if len(made) != len(found):
            _break("postings", f"n {n}", f"has {len(found)} legs, its fact makes {len(made)}")

    def _state(self, n: int, fact: Fact) -> None:
        for row in self._states.pop(n, []):
            values = dict(zip(tables.positions.columns.keys(), row, strict=True))
            symbol = values["symbol"]
            if values["qty"] != self._held[symbol] or symbol != getattr(fact, "symbol", None):
                held = self._held[symbol]
                _break("positions", f"n {n}", f"{symbol} is {values['qty']}, held was {held}")


def _by_n(connection: Connection, table: Table, run_id: str) -> dict[int, list[tuple[Any, ...]]]:
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    statement = select(table).where(table.c.run_id == run_id).order_by(*table.primary_key.columns)
    for row in connection.execute(statement):
        found[row.n].append(tuple(row))
    return found


# --- Laws of single tables -----------------------------------------------------------------------


def _rows(connection: Connection, table: Table, run_id: str) -> Iterator[Any]:
    statement = select(table).where(table.c.run_id == run_id).order_by(*table.primary_key.columns)
    return iter(connection.execute(statement).mappings())


def _postings_sum_to_zero(connection: Connection, run_id: str) -> None:
    sums: dict[tuple[int, str], int] = defaultdict(int)
    for row in _rows(connection, tables.postings, run_id):
        sums[row["n"], row["asset"]] += to_e12(row["amount"])
    for (n, asset), total in sums.items():
        if total:
            _break("postings", f"n {n}", f"sum to {to_decimal(total)} {asset}, not to zero")


def _deposits_are_pairs(connection: Connection, run_id: str) -> None:
    rows = [row for row in _rows(connection, tables.postings, run_id) if row["n"] == DEPOSIT]
    brought = {row["asset"]: row["amount"] for row in rows if row["account"] == "wallet"}
    made = [leg[6:8] for leg in posting_rows(run_id, DEPOSIT, 0, 0, deposits_of(brought))]
    if [(row["account"], row["asset"]) for row in rows] != made:
        _break("postings", f"n {DEPOSIT}", "is no deposit")


def _wallets_are_what_was_posted(connection: Connection, run_id: str) -> None:
    """Equity's wallet: deposits and USDT that came in up to its journal position."""
    rows = [
        row
        for row in _rows(connection, tables.postings, run_id)
        if row["account"] == "wallet" and row["asset"] == "USDT"
    ]
    if not rows or rows[0]["position"] != 0:
        return  # a run without a deposit on record
    rows.sort(key=itemgetter("position"))
    positions = [row["position"] for row in rows]
    sums = list(accumulate((to_e12(row["amount"]) for row in rows), initial=0))
    for row in _rows(connection, tables.equity, run_id):
        before = bisect_left(positions, row["position"])
        until = bisect_right(positions, row["position"], before)
        if to_e12(row["wallet"]) not in sums[before : until + 1]:
            posted = to_decimal(sums[before])
            _break("equity", f"ts {row['ts']}", f"wallet {row['wallet']}, posted {posted}")


def _gaps_end_after_they_began(connection: Connection, run_id: str) -> None:
    for row in _rows(connection, tables.gaps, run_id):
        if row["end_ts"] is not None and row["end_ts"] < row["ts"]:
            _break("gaps", f"position {row['position']} {row['symbol']}", "ends before it began")


def _predictions_are_ready_after_they_read(connection: Connection, run_id: str) -> None:
    for row in _rows(connection, tables.predictions, run_id):
        if row["ready_ts"] < row["read_ts"] or row["read_position"] > row["position"]:
            _break("predictions", f"position {row['position']}", "was ready before it had read")


def _quotes_stand_beside_orders_and_fills(connection: Connection, run_id: str) -> None:
    known = {
        row[0]
        for table in (tables.orders, tables.fills)
        for row in connection.execute(select(table.c.n).where(table.c.run_id == run_id))
    }
    for row in _rows(connection, tables.quotes, run_id):
        if row["n"] not in known:
            _break("quotes", f"n {row['n']}", "stands beside no order or fill")
        if row["bid"] is not None and row["ask"] is not None and row["bid"] > row["ask"]:
            _break("quotes", f"n {row['n']}", f"bid {row['bid']} above ask {row['ask']}")


def _events_belong_to_orders(connection: Connection, run_id: str) -> None:
    known = {
        row[0]
        for row in connection.execute(
            select(tables.orders.c.order_id).where(tables.orders.c.run_id == run_id)
        )
    }
    for row in _rows(connection, tables.order_events, run_id):
        if row["order_id"] not in known:
            _break("order_events", f"n {row['n']}", f"of order {row['order_id']}, not there")


def _snapshots_are_whole(connection: Connection, run_id: str) -> None:
    for stored in stored_snapshots(connection, run_id):
        row = f"position {stored.position}"
        if not stored.is_whole:
            _break("snapshots", row, "damaged: its checksum differs")
        if digest_of(connection, run_id, stored.facts).hexdigest() != stored.digest:
            _break("snapshots", row, f"its first {stored.facts} facts have another digest")


# Of one table each, and quick; they come before the facts are read.
LAWS: Final[tuple[Callable[[Connection, str], None], ...]] = (
    _postings_sum_to_zero,
    _deposits_are_pairs,
    _wallets_are_what_was_posted,
    _gaps_end_after_they_began,
    _predictions_are_ready_after_they_read,
    _quotes_stand_beside_orders_and_fills,
    _events_belong_to_orders,
)
