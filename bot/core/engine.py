"""``step``: one event in, the facts that follow out. The order of its calls is the semantics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from types import MappingProxyType

from bot.core.account import Account
from bot.core.events import (
    E12,
    Accepted,
    Answer,
    BookUpdate,
    Cancel,
    Cancelled,
    Command,
    Decision,
    Event,
    Fact,
    Fill,
    Liquidated,
    Order,
    Refusal,
    Rejected,
    Signal,
    Trade,
    Triggered,
)
from bot.core.exchange import Exchange
from bot.core.instrument import to_decimal
from bot.core.market import Market
from bot.core.matching import FillPolicy
from bot.core.orders import OrderIds, SymbolOrders
from bot.core.risk import Risk, RiskLimits
from bot.core.shadow import Shadow
from bot.core.strategy import Desk, Strategy, View

_ANSWERS = frozenset((Accepted, Triggered, Rejected, Fill, Cancelled, Refusal))
COMMANDER = "command"
"""The name under which orders of a command (flatten) stand in the ledger."""


class Desked:
    """A strategy with its view."""

    __slots__ = ("strategy", "view")

    def __init__(self, strategy: Strategy, view: View) -> None:
        self.strategy = strategy
        self.view = view


class Engine:
    """The whole bot between the queue and the ledger: pure, synchronous, deterministic."""

    def __init__(
        self,
        strategies: Sequence[tuple[str, tuple[str, ...], Strategy]],
        *,
        usdt: int,
        leverage: int,
        policy: FillPolicy,
        limits: RiskLimits,
        strategy_limits: Mapping[str, RiskLimits] = MappingProxyType({}),
        shadows: Sequence[FillPolicy] = (),
    ) -> None:
        self.market = Market()
        self.account = Account(self.market, usdt, leverage)
        self.ids = OrderIds()
        self.exchange = Exchange(self.market, self.account, policy, self.ids)
        self.shadows = tuple(Shadow(self.market, usdt, leverage, each) for each in shadows)
        self.desked = [
            Desked(strategy, View(name, symbols, self.market, self.account, self.ids))
            for name, symbols, strategy in strategies
        ]
        self._commander = View(COMMANDER, (), self.market, self.account, self.ids)
        self._desk_by_name = {desked.view.name: desked for desked in self.desked}
        desks = {desked.view.name: desked.view.desk for desked in self.desked}
        desks[COMMANDER] = self._commander.desk
        self.risk = Risk(limits, self.market, self.account, desks, strategy_limits)
        self._desk_of_order: dict[int, Desked] = {}
        self._answers: list[tuple[int, int, Answer | Liquidated]] = []
        self._answers_sent = 0
        self._ts = 0
        self._watchers: dict[str, list[Desked]] = {}

    def step(self, event: Event) -> list[Fact]:
        """Move on by one event; returns what was decided and what came of it, in order.

        Where nothing was ever sent in its symbol, a book or trade changes the market alone.
        """
        facts: list[Fact] = []
        kind = type(event)
        ts = self._ts = event.ts
        if ts >= self.risk.day_end_ns:
            self.risk.start_day(ts)
        notices = self.market.notices
        if notices:
            notices.clear()
        symbol: str | None = getattr(event, "symbol", None)
        if kind is BookUpdate or kind is Trade:
            orders = self.exchange.orders_of(symbol)  # type: ignore[arg-type]
            if orders is not None or self.shadows:
                self._step_feed(event, orders, facts)  # type: ignore[arg-type]
            elif kind is BookUpdate:
                self.market.apply_book(event)  # type: ignore[arg-type]
            else:
                self.market.apply_trade(event)  # type: ignore[arg-type]
        else:
            self._step_other(event, facts)
        if facts:
            self._queue_answers(facts, 0)
        for notice in notices:
            # A book that crossed, or came back: heard before the book that shows it, as a gap is.
            self._ask_strategies(notice, notice.symbol, facts)
        self._ask_strategies(event, symbol, facts)
        if kind is Command:
            self._command(event, facts)  # type: ignore[arg-type]
        if self.shadows:
            for shadow in self.shadows:
                shadow.compare(facts)
        return facts

    def _step_feed(
        self, event: BookUpdate | Trade, orders: SymbolOrders | None, facts: list[Fact]
    ) -> None:
        """A book or trade: arrive, apply, match."""
        if (
            orders is not None
            and (orders.pending or orders.listing.next_funding_ns)
            and orders.is_due(event.exchange_ts)
        ):
            self.exchange.advance(orders, event.exchange_ts, event.ts, facts)
        shadows, is_met = self.shadows, True
        for shadow in shadows:
            shadow.before(event)
        if isinstance(event, BookUpdate):
            is_met = self.market.apply_book(event)
            if is_met and orders is not None:
                self.exchange.match_book(orders, event, facts)
        else:
            self.market.apply_trade(event)
            if orders is not None:
                self.exchange.match_trade(orders, event, facts)
        if shadows and is_met:
            for shadow in shadows:
                shadow.after(event)

    def _step_other(self, event: Event, facts: list[Fact]) -> None:
        """Any other event, in the same order of calls."""
        self.exchange.before(event, facts)
        for shadow in self.shadows:
            shadow.before(event)
        self.market.apply(event)
        self.exchange.after(event, facts)
        for shadow in self.shadows:
            shadow.after(event)

    def finish(self) -> list[Fact]:
        """The input has ended: what is still travelling arrives."""
        facts: list[Fact] = []
        self.exchange.finish(self._ts, facts)
        for shadow in self.shadows:
            shadow.finish(self._ts)
            shadow.compare(facts)
        return facts

    # --- strategies ------------------------------------------------------------------------

    def _ask_strategies(self, event: Event, symbol: str | None, facts: list[Fact]) -> None:
        """Answers due by now first, then the event, to those who watch ``symbol`` (None: to all).

        What answers a decision of this step is heard at the next: a step always ends.
        """
        ts, answers = event.ts, self._answers
        if answers and answers[0][0] <= ts:
            due: list[Answer | Liquidated] = []
            while answers and answers[0][0] <= ts:
                due.append(heappop(answers)[2])
            for answer in due:
                if type(answer) is Liquidated:
                    self._tell_liquidation(answer, facts)
                else:
                    self._deliver(answer, facts)  # type: ignore[arg-type]
        watching = self.desked if symbol is None else self._watchers.get(symbol)
        if watching is None:
            watching = self._watching(symbol)  # type: ignore[arg-type]
        for desked in watching:
            view = desked.view
            view.ts = ts
            decisions = desked.strategy.on_event(event, view)
            if decisions:
                self._decide(desked, decisions, facts)

    def _watching(self, symbol: str) -> list[Desked]:
        """The strategies of ``symbol``, looked up once."""
        found = [desked for desked in self.desked if symbol in desked.view.symbols]
        self._watchers[symbol] = found
        return found

    def _deliver(self, answer: Answer, facts: list[Fact]) -> None:
        desked = self._desk_of_order.get(answer.order_id)
        if desked is None:
            self._commander.desk.hear(answer)
            return
        view = desked.view
        if view.desk.hear(answer):
            # Whose order it was is forgotten with it.
            del self._desk_of_order[answer.order_id]
        view.ts = self._ts
        decisions = desked.strategy.on_event(answer, view)
        if decisions:
            self._decide(desked, decisions, facts)

    def _decide(self, desked: Desked, decisions: Iterable[Decision], facts: list[Fact]) -> None:
        """Each decision through risk, and on to the exchange."""
        view, check = desked.view, self.risk.check
        for decision in decisions:
            facts.append(decision)
            if type(decision) is Order:
                self._desk_of_order[decision.id] = desked
            refusal = check(decision, view.name)
            if refusal is not None:
                facts.append(refusal)
                self._queue_answers(facts, len(facts) - 1)
                continue
            view.desk.sent(decision)
            self._submit(decision, facts)

    def _submit(self, decision: Decision, facts: list[Fact], *, counts: bool = True) -> None:
        if type(decision) is not Signal:
            before = len(facts)
            for shadow in self.shadows:
                shadow.submit(decision, self._ts, self.exchange, counts=counts)  # type: ignore[arg-type]
            self.exchange.submit(decision, self._ts, facts, counts=counts)  # type: ignore[arg-type]
            if len(facts) > before:
                self._queue_answers(facts, before)

    def _queue_answers(self, facts: list[Fact], start: int) -> None:
        """Outcomes from ``facts[start:]`` will be heard when their answer time has come."""
        for index in range(start, len(facts)):
            fact = facts[index]
            kind = type(fact)
            if kind in _ANSWERS:
                self._answers_sent += 1
                due_ns = fact.ts if kind is Refusal else fact.answer_ts  # type: ignore[union-attr]
                heappush(self._answers, (due_ns, self._answers_sent, fact))  # type: ignore[misc]
                if kind is Fill:
                    self.risk.hear(fact)  # type: ignore[arg-type]
            elif kind is Order:
                self._adopt(fact)  # type: ignore[arg-type]
            elif kind is Liquidated:
                self._queue_liquidation(fact)  # type: ignore[arg-type]

    def _adopt(self, order: Order) -> None:
        """An order that the venue made is its strategy's like any other."""
        desked = self._desk_by_name.get(order.strategy)
        desk = self._commander.desk if desked is None else desked.view.desk
        if order.id in desk.orders:
            return
        if desked is not None:
            self._desk_of_order[order.id] = desked
        desk.sent(order)

    def _queue_liquidation(self, fact: Liquidated) -> None:
        """It is heard after every answer of its symbol that is under way."""
        waiting = [due for due, _, answer in self._answers if answer.symbol == fact.symbol]
        self._answers_sent += 1
        due_ns = max([fact.ts, *waiting])
        heappush(self._answers, (due_ns, self._answers_sent, fact))
        self.risk.hear_liquidation(fact)

    def _tell_liquidation(self, fact: Liquidated, facts: list[Fact]) -> None:
        for desk in self._desks():
            desk.positions.pop(fact.symbol, None)
        for desked in self._watchers.get(fact.symbol) or self._watching(fact.symbol):
            desked.view.ts = self._ts
            decisions = desked.strategy.on_event(fact, desked.view)
            if decisions:
                self._decide(desked, decisions, facts)

    # --- commands --------------------------------------------------------------------------

    def _command(self, command: Command, facts: list[Fact]) -> None:
        self.risk.command(command)
        self._commander.ts = command.ts
        if command.name in ("cancel_all", "flatten", "stop", "halt"):
            for desk in self._desks():
                for order in tuple(desk.orders.values()):
                    if not order.is_cancelling:
                        self._order_directly(self._commander.cancel(order), facts, desk)
        if command.name == "flatten":
            for symbol, position in tuple(self.account.positions.items()):
                self._close(symbol, position.qty, facts)

    def _close(self, symbol: str, held: E12, facts: list[Fact]) -> None:
        """Close a position at the market; the part of a coin below the grid stays."""
        rules = self.market.listing(symbol).rules
        qty = abs(held) // rules.qty_step * rules.qty_step if rules is not None else 0
        if not qty:
            return
        order = Order(
            self._ts, self.ids.next(), COMMANDER, symbol, "Sell" if held > 0 else "Buy", "Market",
            "IOC", to_decimal(qty), None, reduce_only=True, tag="flatten",
        )  # fmt: skip
        self._order_directly(order, facts)

    def _order_directly(
        self, decision: Order | Cancel, facts: list[Fact], desk: Desk | None = None
    ) -> None:
        """A command's decision does not ask risk; its cancels are one request to the venue."""
        facts.append(decision)
        (desk or self._commander.desk).sent(decision)
        self._submit(decision, facts, counts=False)

    def _desks(self) -> list[Desk]:
        return [*(desked.view.desk for desked in self.desked), self._commander.desk]
