"""Commands that come as messages."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.operate.commands import LARGEST, REMEMBERED, Commands


class Desk:
    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.commands = Commands(lambda name, reason: self.taken.append((name, reason)), lambda: 1)


@pytest.mark.parametrize("name", ["pause", "resume", "cancel_all", "flatten", "halt", "stop"])
def test_every_command_of_the_engine_can_be_sent(name):
    desk = Desk()
    topic, reply = desk.commands.answer(json.dumps({"name": name, "reply_to": "me"}).encode())
    assert (topic, reply.ok) == ("reply/me", True)
    assert desk.taken == [(name, "")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"pause",
        b"[]",
        b'{"name": "buy"}',
        b'{"name": "pause", "size": 3}',
        b'{"name": "pause", "reason": 3}',
        b'{"name": "pause", "id": "' + b"x" * LARGEST + b'"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_command_is_counted_and_not_answered(payload):
    desk = Desk()
    assert desk.commands.answer(payload) is None
    assert (desk.taken, desk.commands.refused) == ([], 1)


@pytest.mark.parametrize("reply_to", ["", "a/b", "../command", "+", "#", "a b", "x" * 65])
def test_an_answer_goes_below_reply_and_nowhere_else(reply_to):
    desk = Desk()
    body = json.dumps({"name": "pause", "reply_to": reply_to}).encode()
    assert desk.commands.answer(body) is None
    assert desk.taken == [("pause", "")]


def test_ids_are_remembered_within_bounds():
    desk = Desk()
    for number in range(REMEMBERED + 5):
        desk.commands.answer(json.dumps({"name": "pause", "id": str(number)}).encode())
    before = len(desk.taken)
    desk.commands.answer(json.dumps({"name": "pause", "id": str(number)}).encode())
    assert len(desk.taken) == before
    assert len(desk.commands._done) == REMEMBERED


@given(st.binary(max_size=200))
def test_no_bytes_break_it(payload):
    Desk().commands.answer(payload)
