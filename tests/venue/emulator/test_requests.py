"""What clients say and what the venue answers, as text in and text out."""

from __future__ import annotations

import json

import pytest

from bot.venue.emulator.commands import Connection, answer

TOPICS = {f"orderbook.{depth}.BTCUSDT" for depth in range(60)} | {"tickers.BTCUSDT"}


def a_connection(category: str = "linear", *topics: str) -> Connection:
    return Connection("conn-1", category, set(topics))


def ask(connection: Connection, request: object) -> str:
    text = request if isinstance(request, str) else json.dumps(request)
    return answer(connection, text, lambda topic: topic in TOPICS).text


def test_linear_acknowledges_as_bybit_does():
    connection = a_connection("linear")
    request = {"op": "subscribe", "args": ["tickers.BTCUSDT"]}
    assert ask(connection, request) == (
        '{"success":true,"ret_msg":"","conn_id":"conn-1","req_id":"","op":"subscribe"}'
    )
    assert ask(connection, request | {"req_id": "abc"}) == (
        '{"success":true,"ret_msg":"","conn_id":"conn-1","req_id":"abc","op":"subscribe"}'
    )


def test_spot_acknowledges_as_bybit_does():
    connection = a_connection("spot")
    request = {"op": "subscribe", "args": ["tickers.BTCUSDT"]}
    assert ask(connection, request) == (
        '{"success":true,"ret_msg":"subscribe","conn_id":"conn-1","op":"subscribe"}'
    )
    assert ask(connection, request | {"req_id": "abc"}) == (
        '{"success":true,"ret_msg":"subscribe","conn_id":"conn-1","req_id":"abc","op":"subscribe"}'
    )


def test_pongs_are_those_of_the_category():
    assert ask(a_connection("linear"), {"op": "ping", "req_id": "9"}) == (
        '{"success":true,"ret_msg":"pong","conn_id":"conn-1","req_id":"9","op":"ping"}'
    )
    assert ask(a_connection("spot"), {"op": "ping", "req_id": "9"}) == (
        '{"success":true,"ret_msg":"pong","conn_id":"conn-1","op":"ping"}'
    )


@pytest.mark.parametrize(
    ("category", "held", "request_", "ret_msg"),
    [
        ("linear", [], {"op": "subscribe", "args": ["x.BTCUSDT"]},
         "error:handler not found,topic:x.BTCUSDT"),
        ("linear", ["tickers.BTCUSDT"], {"op": "subscribe", "args": ["tickers.BTCUSDT"]},
         "error:already subscribed,topic:tickers.BTCUSDT"),
        ("linear", [], {"op": "jump"}, "error:invalid op"),
        ("linear", [], {"op": "subscribe"}, "error:args must be a list of topics"),
        ("linear", [], {"op": "subscribe", "args": [1]}, "error:args must be a list of topics"),
        ("linear", [], {"op": "subscribe", "args": []}, "error:args is empty"),
        ("linear", [], "{", "error:request is not valid JSON"),
        ("linear", [], "7", "error:request is not an object"),
        ("spot", [], {"op": "subscribe", "args": [f"orderbook.{n}.BTCUSDT" for n in range(11)]},
         "args size >10"),
    ],
)  # fmt: skip
def test_a_bad_request_is_answered_and_changes_nothing(category, held, request_, ret_msg):
    connection = a_connection(category, *held)
    text = request_ if isinstance(request_, str) else json.dumps(request_)
    reply = answer(connection, text, lambda topic: topic in TOPICS)
    message = json.loads(reply.text)
    assert message["success"] is False
    assert message["ret_msg"] == ret_msg
    assert not reply.subscribe
    assert not reply.unsubscribe
    assert connection.topics == set(held)


def test_a_sign_is_escaped_as_the_venues_encoder_does():
    topics = [f"orderbook.{n}.BTCUSDT" for n in range(11)]
    assert "args size \\u003e10" in ask(a_connection("spot"), {"op": "subscribe", "args": topics})


def test_ten_arguments_of_spot_and_eleven_of_linear_are_fine():
    topics = [f"orderbook.{n}.BTCUSDT" for n in range(11)]
    for category, args in (("spot", topics[:10]), ("linear", topics)):
        reply = json.loads(ask(a_connection(category), {"op": "subscribe", "args": args}))
        assert reply["success"] is True


def test_all_topics_of_a_connection_share_21000_characters():
    long = [f"{n:03d}" + "x" * 97 for n in range(210)]  # 100 characters each
    for held, success in ((209, True), (210, False)):
        connection = a_connection("linear", *long[:held])
        text = json.dumps({"op": "subscribe", "args": ["y" * 100]})
        assert json.loads(answer(connection, text, lambda _: True).text)["success"] is success


def test_unsubscribing_names_what_to_remove():
    connection = a_connection("linear", "tickers.BTCUSDT")
    text = json.dumps({"op": "unsubscribe", "args": ["tickers.BTCUSDT"], "req_id": "5"})
    reply = answer(connection, text, lambda topic: topic in TOPICS)
    assert reply.unsubscribe == ("tickers.BTCUSDT",)
    assert reply.text == (
        '{"success":true,"ret_msg":"","conn_id":"conn-1","req_id":"5","op":"unsubscribe"}'
    )
