"""Golden scenarios: each comes true, and a wrong expectation is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.core.errors import PlainError
from bot.research.scenarios import Failure, ScenarioError, find, run

GOLDEN = Path(__file__).parents[1] / "scenarios"
BOOK = {
    "snapshot": True,
    "bids": [["100.0", "100"], ["99.9", "500"]],
    "asks": [["100.1", "100"], ["100.2", "500"]],
}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("**/*.yaml")), ids=lambda path: path.stem)
def test_a_golden_scenario_comes_true(path: Path) -> None:
    assert run(path) is None


def play(tmp_path: Path, *steps: dict[str, Any], **parts: Any) -> Failure | None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({"steps": [{"t": 0, "book": BOOK}, *steps], **parts}))
    return run(path)


def place(t: int, order: str, **how: Any) -> dict[str, Any]:
    limit = {"id": order, "side": "Buy", "type": "Limit", "price": "100.1", "qty": "5"}
    return {"t": t, "place": limit | how}


BUY = place(1, "a")
FILL = {"t": 1, "id": "a", "price": "100.1", "qty": 5, "maker": False, "fee": "0.275275"}
TRUE = {
    "fills": [FILL],
    "orders": {"a": {"status": "Filled"}},
    "position": 5,
    "realized_pnl": "0",
    "fees": "0.275275",
    "funding": 0.0,
    "balance": "999999.724725",
}


def test_what_comes_true_does_not_fail(tmp_path: Path) -> None:
    assert play(tmp_path, BUY, expect=TRUE) is None
    assert play(tmp_path, BUY) is None
    assert play(tmp_path, BUY, expect=None) is None


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ({"fills": []}, "fills: expected 0, got 1"),
        ({"fills": [FILL, FILL]}, "fills: expected 2, got 1"),
        ({"fills": [FILL | {"t": 2}]}, "fill 1: t expected 2, got 1"),
        ({"fills": [FILL | {"qty": "4"}]}, "fill 1: qty expected 4, got 5"),
        ({"fills": [FILL | {"maker": True}]}, "fill 1: maker expected True, got False"),
        ({"fills": [FILL | {"id": "b"}]}, "fill 1: id expected b, got a"),
        ({"orders": {"a": {"status": "New"}}}, "order a: expected New, got Filled"),
        ({"orders": {"a": {"status": "Filled", "reason": 1}}}, "order a: expected 1, got "),
        ({"position": "-5"}, "position: expected -5, got 5"),
        ({"realized_pnl": "1"}, "realized_pnl: expected 1, got 0"),
        ({"fees": "0.275274"}, "fees: expected 0.275274, got 0.275275"),
        ({"funding": "1"}, "funding: expected 1, got 0"),
        ({"balance": "0"}, "balance: expected 0, got 999999.724725"),
    ],
)
def test_what_does_not_come_true_is_told(
    tmp_path: Path, expect: dict[str, Any], difference: str
) -> None:
    failure = play(tmp_path, BUY, expect=expect, name="wrong")
    assert failure is not None
    assert (failure.name, failure.path) == ("wrong", str(tmp_path / "a.yaml"))
    (told,) = failure.differences
    assert told.startswith(difference)


def test_a_scenario_without_a_name_has_that_of_its_file(tmp_path: Path) -> None:
    failure = play(tmp_path, BUY, expect={"position": 1})
    assert failure is not None
    assert failure.name == "a"


@pytest.mark.parametrize(
    ("steps", "status", "reason"),
    [
        ([place(1, "a", price="99.0")], "New", ""),
        ([place(1, "a", qty="105"), {"t": 2, "amend": {"id": "a", "qty": "103"}}],
         "PartiallyFilled", ""),
        ([BUY], "Filled", ""),
        ([place(1, "a", price="99.0"), {"t": 2, "cancel": {"id": "a"}}], "Cancelled",
         "EC_PerCancelRequest"),
        ([place(1, "a", reduce_only=True)], "Rejected", "110017"),
        ([place(1, "a", type="Market", qty="50000")], "Cancelled", "EC_NoImmediateQtyToFill"),
        ([BUY, {"t": 2, "cancel": {"id": "a"}}], "Filled", ""),
        ([place(1, "a", tif="PostOnly")], "Cancelled", "EC_PostOnlyWillTakeLiquidity"),
    ],
)  # fmt: skip
def test_every_status_can_be_expected(
    tmp_path: Path, steps: list[dict[str, Any]], status: str, reason: str
) -> None:
    wanted = {"status": status, "reason": reason}
    assert play(tmp_path, *steps, expect={"orders": {"a": wanted}}) is None


def test_every_step_does_what_it_says(tmp_path: Path) -> None:
    steps = [
        BUY,
        {"t": 2, "mark": {"price": "110"}},
        {"t": 3, "funding": {"rate": "0.001", "time": 3}},
        place(4, "b", price="99.9"),
        {"t": 5, "amend": {"id": "b", "price": "100.0"}},
        {"t": 6, "trade": {"side": "Sell", "price": "100.0", "qty": "103"}},
        {"t": 7, "gap": None},
        {"t": 8, "trade": {"side": "Sell", "price": "100.0", "qty": "500"}},
        {"t": 9, "book": BOOK},
        {"t": 10, "advance": None},
    ]
    expect = {"position": 8, "funding": "0.55"}
    assert play(tmp_path, *steps, expect=expect) is None


def test_settings_reach_the_engine(tmp_path: Path) -> None:
    order = place(1, "a", price="100.05", qty="0.5", tif="PostOnly")
    assert (
        play(
            tmp_path,
            order,
            {"t": 20, "trade": {"side": "Sell", "price": "100.0", "qty": "1"}},
            instrument={"symbol": "ETHUSDT", "category": "spot", "tick_size": "0.05",
                        "qty_step": "0.5", "min_qty": "0.5", "base": "ETH", "quote": "USDT"},
            fees={"maker": "0.01"},
            policy={"queue": "none", "through": "full", "order_latency_ms": 10},
            account={"usdt": "100"},
            expect={"position": "0.495", "fees": "0.50025", "balance": "49.975",
                    "orders": {"a": {"status": "Filled"}}},
        )
        is None
    )  # fmt: skip


def test_a_seq_can_be_given(tmp_path: Path) -> None:
    steps = [
        place(1, "a", price="100.0"),
        {"t": 2, "book": {"seq": 10, "bids": [["100.0", "40"]]}},
        {"t": 3, "trade": {"seq": 9, "side": "Sell", "price": "100.0", "qty": "60"}},
        {"t": 4, "trade": {"side": "Sell", "price": "100.0", "qty": "41"}},
    ]
    assert play(tmp_path, *steps, expect={"position": "1"}) is None


# --- files that cannot be run ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "must hold a mapping"),
        ("name: x", "must hold a mapping"),
        ("a: [", "while parsing"),
        ("steps: [{t: 1}]", "a step needs `t` and one of"),
        ("steps: [{book: {}}]", "a step needs `t` and one of"),
        ("steps: [{t: 1, book: {}, gap: {}}]", "a step needs `t` and one of"),
        ("steps: [{t: 1, cancel: {id: a}}]", "KeyError"),
        ("steps: [{t: 1, trade: {side: Buy, price: x, qty: 1}}]", "not a plain decimal number"),
        ("steps: [{t: 1, mark: {price: x}}]", "InvalidOperation"),
        ("steps: []\nexpect: {luck: 1}", "unknown expectation 'luck'"),
        ("steps: [7]", "TypeError"),
    ],
)
def test_a_file_that_cannot_be_run_is_told_with_its_name(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        run(path)
    assert isinstance(caught.value, PlainError)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_a_file_that_is_not_text_or_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\xfa")
    for each in (path, tmp_path / "none.yaml"):
        with pytest.raises(ScenarioError, match=str(each)):
            run(each)


def test_files_are_found_in_name_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.yaml", "a.yaml", "deep/c.yaml", "notes.md"):
        (tmp_path / name).write_text("steps: []")
    found = [path.relative_to(tmp_path).as_posix() for path in find(tmp_path)]
    assert found == ["a.yaml", "b.yaml", "deep/c.yaml"]
    assert find(tmp_path / "a.yaml") == [tmp_path / "a.yaml"]
    with pytest.raises(ScenarioError, match=r"no \*.yaml files"):
        find(tmp_path / "nothing")


def test_a_fault_of_the_engine_is_not_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr("bot.core.book.Book.apply", broken)
    with pytest.raises(KeyError, match="a fault"):
        play(tmp_path, BUY)
