"""Committed entries to messages."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from msgspec.structs import replace

from bot.core.account import Account, Position
from bot.core.events import Fill, Prediction
from bot.core.market import Market
from bot.ledger import tables
from bot.ledger.writer import Entry
from bot.operate.messages import (
    OrderMessage,
    PnlMessage,
    PositionMessage,
    PredictionMessage,
    SignalMessage,
)
from bot.operate.outbox import Outbox
from bot.publish import Publisher
from tests.ledger.samples import BTC, FACTS, STEPS, T

PREDICTION = next(event for _, event, _ in STEPS if isinstance(event, Prediction))


class Published:
    def __init__(self, *, first_position=0, account=None, every_s=1.0) -> None:
        self.outbox = Outbox(1000)
        account = account or Account(Market(), 0, 10**12)
        self.publisher = Publisher(
            "r1", self.outbox, account, first_position=first_position, prediction_every_s=every_s
        )

    def of(self, topic, kind):
        return [msgspec.json.decode(each.payload, type=kind) for each in self.outbox.take(1000)
                if each.topic == topic]  # fmt: skip


def entries():
    first = 0
    for position, event, facts in STEPS:
        yield Entry(position, first, event, tuple(facts))
        first += len(facts)


def test_every_fact_goes_out_once_with_its_number():
    published = Published()
    published.outbox.fills_due.clear()
    for entry in entries():
        published.publisher(entry)
    assert published.outbox.fills_due.is_set()
    parcels = published.outbox.take(1000)
    numbers = [
        msgspec.json.decode(each.payload)["fact"]
        for each in parcels
        if each.topic in ("order", "signal", "position")
    ]
    told = [n for n, fact in enumerate(FACTS) if type(fact).__name__ != "FundingPaid"]
    assert numbers == told
    for each in parcels:
        kind = {"order": OrderMessage, "signal": SignalMessage, "position": PositionMessage}
        if each.topic in kind:
            msgspec.json.decode(each.payload, type=kind[each.topic])


def test_what_an_earlier_process_published_is_not_told_again():
    published = Published(first_position=10**6)
    published.outbox.fills_due.clear()
    for entry in entries():
        published.publisher(entry)
    assert len(published.outbox) == 0
    assert not published.outbox.fills_due.is_set()


def test_of_predictions_one_of_a_model_and_symbol_goes_out_in_a_while():
    published = Published(every_s=1.0)
    for ms in (0, 400, 999, 1000, 1500, 2000):
        event = replace(PREDICTION, ts=T + ms * 1_000_000)
        published.publisher(Entry(1, 0, event, ()))
        published.publisher(Entry(1, 0, replace(event, model="other"), ()))
    found = published.of(f"prediction/{PREDICTION.symbol}", PredictionMessage)
    stamps = [(each.ts - T) // 1_000_000 for each in found if each.model == PREDICTION.model]
    assert stamps == [0, 1000, 2000]
    assert len(found) == 6
    assert found[0].horizons == PREDICTION.horizons


def test_money_goes_on_from_what_the_run_had():
    account = Account(Market(), 0, 10**12)
    account.positions[BTC] = Position(
        qty=10**12, cost=100 * 10**8, realized=7 * 10**8, fees=2 * 10**8, funding=10**8
    )
    published = Published(account=account)
    published.publisher(Entry(1, 0, None, (), ((tables.equity, ("r1", T, 1, "1007.5", "1000")),)))
    (worth,) = published.of("pnl", PnlMessage)
    sums = (worth.equity, worth.realized_pnl, worth.fees, worth.funding)
    assert [str(each) for each in sums] == ["1007.5", "7", "2", "1"]
    fill = next(fact for fact in FACTS if isinstance(fact, Fill) and fact.symbol == BTC)
    bought = replace(
        fill,
        side="Buy",
        qty=Decimal(1),
        price=Decimal(200),
        position=Decimal(2),
        realized_pnl=Decimal(0),
    )
    published.publisher(Entry(2, 5, None, (bought,)))
    (position,) = published.of("position", PositionMessage)
    assert (position.fact, str(position.average_entry), str(position.realized_pnl)) == (
        5, "150", "7",
    )  # fmt: skip


def test_numbers_are_written_as_the_ledger_writes_them():
    fill = next(fact for fact in FACTS if isinstance(fact, Fill) and fact.symbol == BTC)
    sold = replace(fill, position=Decimal("0.0010"), realized_pnl=Decimal("-0.0020"))
    published = Published()
    published.publisher(Entry(1, 0, None, (sold,)))
    (position,) = published.of("position", PositionMessage)
    assert (str(position.position), str(position.realized_pnl)) == ("0.001", "-0.002")
