"""What waits for the broker is bounded, and in order."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from bot.operate.outbox import FillCursor, Outbox, Parcel


class Number(Struct):
    n: int


def numbers(parcels: list[Parcel]) -> list[int]:
    return [msgspec.json.decode(each.payload, type=Number).n for each in parcels]


@given(st.lists(st.sampled_from(["put", "take", "fail"]), max_size=60), st.integers(1, 8))
def test_nothing_is_lost_uncounted_nothing_twice_and_the_newest_stays(moves, limit):
    outbox, sent, put = Outbox(limit), [], 0
    for move in moves:
        if move == "put":
            outbox.put("order", Number(put))
            put += 1
        else:
            taken = outbox.take(3)
            if move == "fail":
                outbox.put_back(taken)
            else:
                sent += numbers(taken)
        assert len(outbox) <= limit
        assert outbox.filled.is_set() == bool(len(outbox))
        assert len(sent) + len(outbox) + outbox.dropped == put
    sent += numbers(outbox.take(limit))
    assert sent == sorted(set(sent))
    if put and moves[-1] == "put":
        assert sent[-1] == put - 1


def test_what_came_meanwhile_has_room_before_what_is_put_back():
    outbox = Outbox(3)
    for n in range(3):
        outbox.put("order", Number(n))
    taken = outbox.take(3)
    outbox.put("order", Number(3))
    outbox.put_back(taken)
    assert numbers(outbox.take(3)) == [1, 2, 3]
    assert outbox.dropped == 1


def test_a_cursor_is_kept_and_a_damaged_one_begins_anew(tmp_path):
    path = tmp_path / "fills.json"
    cursor = FillCursor(path)
    assert cursor.next_fact == 0
    cursor.advance(17)
    assert FillCursor(path).next_fact == 17
    for damage in (b"", b"x", b'"17"', b"-4"):
        path.write_bytes(damage)
        assert FillCursor(path).next_fact == 0
