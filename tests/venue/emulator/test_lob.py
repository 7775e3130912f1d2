"""The venue's own book against a naive one: one list of orders, searched from end to end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.venue.emulator.orderbook import OrderBook

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "take", "cancel", "drop"]),
        st.booleans(),
        st.integers(90, 110),
        st.integers(1, 9),
    ),
    max_size=60,
)


class Naive:
    """Orders as (buy, price, arrival, lots)."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []
        self.arrivals = 0

    def side(self, buy: bool) -> list[list[int]]:
        own = [order for order in self.orders if order[0] == buy]
        return sorted(own, key=lambda order: (-order[1] if buy else order[1], order[2]))

    def add(self, buy: bool, price: int, lots: int) -> bool:
        other = self.side(not buy)
        if other and (price >= other[0][1] if buy else price <= other[0][1]):
            return False
        self.arrivals += 1
        self.orders.append([buy, price, self.arrivals, lots])
        return True

    def take(self, buy: bool, lots: int, limit: int) -> list[tuple[int, int]]:
        fills = []
        for order in self.side(not buy):
            if not lots or (order[1] > limit if buy else order[1] < limit):
                break
            fill = min(lots, order[3])
            fills.append((order[1], fill))
            lots -= fill
            order[3] -= fill
        self.orders = [order for order in self.orders if order[3]]
        return fills


@given(ACTIONS)
@settings(max_examples=300, deadline=None)
def test_orders_execute_by_price_then_arrival_as_in_a_naive_book(actions):
    book, naive = OrderBook(), Naive()
    for action, buy, price, lots in actions:
        own = book.bids if buy else book.asks
        if action == "add":
            assert book.add(buy=buy, price=price, lots=lots) == naive.add(buy, price, lots)
        elif action == "take":
            other = book.asks if buy else book.bids
            assert other.take(lots, price) == naive.take(buy, lots, price)
        elif price in own.orders and action == "cancel":
            order_id = next(iter(own.orders[price]))
            lots_cancelled = own.remove(price, order_id)
            first = next(order for order in naive.side(buy) if order[1] == price)
            assert lots_cancelled == first[3]
            naive.orders.remove(first)
        elif price in own.orders:
            own.drop_level(price)
            naive.orders = [o for o in naive.orders if (o[0], o[1]) != (buy, price)]
        for side, is_buy in ((book.bids, True), (book.asks, False)):
            levels: dict[int, int] = {}
            for order in naive.side(is_buy):
                levels[order[1]] = levels.get(order[1], 0) + order[3]
            assert list(side.top(1000).items()) == list(levels.items())
            assert list(side.top(2).items()) == list(levels.items())[:2]
