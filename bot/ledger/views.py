"""The ledger for people: SQL views with the same columns and values on SQLite and Postgres.

Times are UTC text beside the integer ns; amounts are numbers. On Postgres they are exact; SQLite
has no decimals, so there a sum is made of exact integers and shown as the nearest double.
docs/ledger.md tells what each is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, inspect, text

_TEMPLATES: Final = {
    "v_fills": """
        SELECT f.run_id, f.n, f.fill_id, {time:f.exchange_ts} AS time, f.exchange_ts, f.order_id,
          f.strategy, f.symbol, f.side, {num:f.price} AS price, {num:f.qty} AS qty, f.maker,
          {num:f.fee} AS fee, f.fee_coin, f.cause, {num:f.ahead_at_arrival} AS ahead_at_arrival,
          f.policy, {num:f.realized_pnl} AS realized_pnl, {num:f.position_qty} AS position_qty,
          o.tif, o.tag, {ms:f.exchange_ts - o.ts} AS ms_since_order, f.position
        FROM fills f JOIN orders o ON o.run_id = f.run_id AND o.order_id = f.order_id""",
    "v_round_trips": """
        SELECT run_id, symbol, trip, MIN({time:exchange_ts}) AS opened,
          MAX({time:exchange_ts}) AS closed, COUNT(*) AS fills,
          {sum:realized_pnl} AS realized_pnl, {ms:MAX(exchange_ts) - MIN(exchange_ts)} AS held_ms,
          MIN(n) AS first_n, MAX(n) AS last_n
        FROM (
          SELECT f.*, COALESCE(SUM(CASE WHEN position_qty = '0' THEN 1 ELSE 0 END) OVER (
            PARTITION BY run_id, symbol ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
          ), 0) + 1 AS trip FROM fills f
        ) AS trips
        GROUP BY run_id, symbol, trip
        HAVING MAX(CASE WHEN position_qty = '0' THEN 1 ELSE 0 END) = 1""",
    "v_pnl_daily": """
        SELECT run_id, day, asset, {sumif:realized} AS realized_pnl, {sumif:fees} AS fees,
          {sumif:funding} AS funding, {sumif:liquidation} AS liquidations
        FROM (
          SELECT run_id, {day:ts} AS day, asset, account,
            CASE WHEN account = 'realized' THEN {minus:amount} ELSE amount END AS amount
          FROM postings WHERE account IN ('realized', 'fees', 'funding', 'liquidation')
        ) AS moved
        GROUP BY run_id, day, asset""",
    "v_equity": """
        SELECT run_id, {time:ts} AS time, ts, {num:equity} AS equity, {num:wallet} AS wallet,
          {num:equity} - {num:wallet} AS open_pnl, position
        FROM equity""",
    "v_slippage": """
        SELECT f.run_id, f.n, f.fill_id, {time:f.exchange_ts} AS time, f.strategy, f.symbol, f.side,
          f.maker, {num:f.price} AS price, {num:f.qty} AS qty, ({num:q.bid} + {num:q.ask}) / 2 AS
          mid_at_order, {basis} AS slippage_bps, {ms:f.exchange_ts - o.ts} AS ms_since_order
        FROM fills f
        JOIN orders o ON o.run_id = f.run_id AND o.order_id = f.order_id
        JOIN quotes q ON q.run_id = o.run_id AND q.n = o.n
        WHERE q.bid IS NOT NULL AND q.ask IS NOT NULL""",
    "v_funding": """
        SELECT f.run_id, f.n, {time:f.funding_ts} AS time, f.funding_ts, f.symbol,
          {num:f.rate} AS rate, {num:f.mark} AS mark, {num:f.position_qty} AS position_qty,
          {num:f.amount} AS paid, {num:r.rate} AS venue_rate, {num:r.mark} AS venue_mark,
          {num:f.position_qty} * {num:r.rate} * {num:r.mark} AS venue_paid,
          CASE WHEN r.rate IS NULL THEN NULL WHEN r.rate = f.rate THEN 0 ELSE 1 END AS differs
        FROM funding_paid f LEFT JOIN funding_rates r ON r.run_id = f.run_id
          AND r.symbol = f.symbol AND r.funding_ts = f.funding_ts""",
    "v_predictions_scored": """
        SELECT p.run_id, p.position, {time:p.read_ts} AS time, p.symbol, p.model, p.horizon,
          p.horizon_ns, p.price, p.expected_return, p.up_probability, p.confidence, p.trained,
          l.price AS price_then, l.price / p.price - 1 AS realized_return,
          {ms:l.read_ts - p.read_ts - p.horizon_ns} AS late_ms,
          CASE WHEN l.price = p.price OR p.expected_return = 0 THEN NULL
            WHEN (l.price > p.price) = (p.expected_return > 0) THEN 1 ELSE 0 END AS is_right
        FROM predictions p
        JOIN predictions l ON l.run_id = p.run_id AND l.symbol = p.symbol AND l.model = p.model
          AND l.horizon = 0 AND l.position = (
            SELECT MIN(x.position) FROM predictions x WHERE x.run_id = p.run_id
              AND x.symbol = p.symbol AND x.model = p.model AND x.horizon = 0 AND x.read_ts = (
                SELECT MIN(y.read_ts) FROM predictions y WHERE y.run_id = p.run_id
                  AND y.symbol = p.symbol AND y.model = p.model
                  AND y.read_ts >= p.read_ts + p.horizon_ns))
        WHERE p.horizon_ns IS NOT NULL AND p.price > 0""",
}
VIEWS: Final = tuple(_TEMPLATES)


def drop_views(connection: Connection) -> None:
    """Before a migration: a view would hold on to the tables as they were."""
    for name in sorted(set(inspect(connection).get_view_names()) & set(VIEWS)):
        connection.execute(text(f"DROP VIEW {name}"))


def create_views(connection: Connection) -> None:
    """All of them, for the newest schema."""
    for name in VIEWS:
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {view_sql(name, connection)}")


def view_sql(name: str, connection: Connection) -> str:
    """A view's SELECT in the words of the connection's database."""
    is_sqlite = connection.dialect.name == "sqlite"
    words = _Sqlite if is_sqlite else _Postgres
    made, rest = "", _TEMPLATES[name]
    while "{" in rest:
        before, _, rest = rest.partition("{")
        what, _, rest = rest.partition("}")
        word, _, argument = what.partition(":")
        made += before + getattr(words, word)(argument)
    return made + rest


class _Postgres:
    """Exact decimals, real time stamps."""

    @staticmethod
    def num(column: str) -> str:
        return f"CAST({column} AS NUMERIC)"

    @staticmethod
    def sum(column: str) -> str:
        return f"SUM(CAST({column} AS NUMERIC))"

    @staticmethod
    def sumif(account: str) -> str:
        return f"SUM(CASE WHEN account = '{account}' THEN CAST(amount AS NUMERIC) ELSE 0 END)"

    @staticmethod
    def minus(column: str) -> str:
        return f"CAST(-CAST({column} AS NUMERIC) AS TEXT)"

    @staticmethod
    def ms(nanoseconds: str) -> str:
        return f"({nanoseconds}) / 1000000"

    @staticmethod
    def time(ns: str) -> str:
        at = f"TO_TIMESTAMP({ns} / 1000000000) AT TIME ZONE 'UTC'"
        ms = f"LPAD(CAST({ns} / 1000000 % 1000 AS TEXT), 3, '0')"
        return f"TO_CHAR({at}, 'YYYY-MM-DD HH24:MI:SS') || '.' || {ms}"

    @staticmethod
    def day(ns: str) -> str:
        return f"TO_CHAR(TO_TIMESTAMP({ns} / 1000000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"

    @staticmethod
    def basis(_: str) -> str:
        return _basis(_Postgres.num)


class _Sqlite:
    """Doubles; sums of exact integers of 1e-8."""

    @staticmethod
    def num(column: str) -> str:
        return f"CAST({column} AS REAL)"

    @staticmethod
    def units(column: str) -> str:
        """Text like -12.5 as an integer of 1e-8, digit by digit; finer digits are cut."""
        digits = f"(LENGTH({column}) - INSTR({column}, '.'))"
        return (
            f"CASE WHEN INSTR({column}, '.') = 0 THEN CAST({column} AS INTEGER) * 100000000 "
            f"WHEN {digits} > 8 THEN CAST(SUBSTR(REPLACE({column}, '.', ''), 1, "
            f"LENGTH({column}) - 1 - ({digits} - 8)) AS INTEGER) "
            f"ELSE CAST(REPLACE({column}, '.', '') || SUBSTR('00000000', {digits} + 1) "
            "AS INTEGER) END"
        )

    @staticmethod
    def sum(column: str) -> str:
        return f"SUM({_Sqlite.units(column)}) / 1e8"

    @staticmethod
    def sumif(account: str) -> str:
        of = _Sqlite.units("amount")
        return f"SUM(CASE WHEN account = '{account}' THEN {of} ELSE 0 END) / 1e8"

    @staticmethod
    def minus(column: str) -> str:
        return (
            f"CASE WHEN {column} LIKE '-%' THEN SUBSTR({column}, 2) WHEN {column} = '0' THEN '0' "
            f"ELSE '-' || {column} END"
        )

    @staticmethod
    def ms(nanoseconds: str) -> str:
        return f"({nanoseconds}) / 1000000"

    @staticmethod
    def time(ns: str) -> str:
        return (
            f"STRFTIME('%Y-%m-%d %H:%M:%S', {ns} / 1000000000, 'unixepoch') || "
            f"PRINTF('.%03d', {ns} / 1000000 % 1000)"
        )

    @staticmethod
    def day(ns: str) -> str:
        return f"STRFTIME('%Y-%m-%d', {ns} / 1000000000, 'unixepoch')"

    @staticmethod
    def basis(_: str) -> str:
        return _basis(_Sqlite.num)


def _basis(num: Callable[[str], str]) -> str:
    """How much worse than the mid at the decision, in 1e-4 of it."""
    mid = f"(({num('q.bid')} + {num('q.ask')}) / 2)"
    sign = "CASE WHEN f.side = 'Buy' THEN 10000 ELSE -10000 END"
    return f"({num('f.price')} - {mid}) / {mid} * {sign}"
