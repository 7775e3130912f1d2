"""Signatures against RFC 4231, and every reason to refuse a request."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from multidict import CIMultiDict

from bot.venue.emulator.codes import Refused
from bot.venue.emulator.signing import check_auth, check_request, signature

NOW_MS = 1_700_000_000_000
SECRETS = {"k": "s"}


def signed(
    payload: str, *, stamp: int = NOW_MS, key: str = "k", window: str = "5000"
) -> CIMultiDict:
    origin = f"{stamp}{key}{window}{payload}"
    return CIMultiDict(
        {
            "x-bapi-api-key": key,
            "X-BAPI-TIMESTAMP": str(stamp),
            "X-BAPI-RECV-WINDOW": window,
            "X-BAPI-SIGN": hmac.new(b"s", origin.encode(), hashlib.sha256).hexdigest(),
        }
    )


def code_of(headers: CIMultiDict, payload: str = "") -> int:
    with pytest.raises(Refused) as caught:
        check_request(headers, payload, SECRETS, NOW_MS)
    return caught.value.code


def test_a_signature_is_hmac_sha256_as_rfc_4231_has_it():
    assert signature("Jefe", "what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_a_signed_request_gives_its_key():
    assert check_request(signed("a=1&b=2"), "a=1&b=2", SECRETS, NOW_MS) == "k"


@pytest.mark.parametrize(
    ("stamp", "passes"),
    [
        (NOW_MS - 5000, True),
        (NOW_MS - 5001, False),
        (NOW_MS + 999, True),
        (NOW_MS + 1000, False),
    ],
)
def test_a_stamp_must_be_within_the_window_behind_and_a_second_ahead(stamp, passes):
    headers = signed("", stamp=stamp)
    if passes:
        check_request(headers, "", SECRETS, NOW_MS)
    else:
        assert code_of(headers) == 10002


def test_the_window_is_the_clients():
    check_request(signed("", stamp=NOW_MS - 20_000, window="20000"), "", SECRETS, NOW_MS)


def test_an_unknown_key_a_wrong_payload_and_a_missing_stamp_are_told_apart():
    assert code_of(signed("", key="other")) == 10003
    assert code_of(CIMultiDict()) == 10003
    assert code_of(signed("a=1"), "a=2") == 10004
    headers = signed("")
    del headers["X-BAPI-TIMESTAMP"]
    assert code_of(headers) == 10001


def auth(expires: object = NOW_MS + 1000, key: str = "k", secret: str = "s") -> list[object]:
    text = f"GET/realtime{expires}"
    return [key, expires, hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()]


def test_auth_of_a_socket_gives_its_key():
    assert check_auth(auth(), SECRETS, NOW_MS) == "k"
    assert check_auth(auth(str(NOW_MS + 1)), SECRETS, NOW_MS) == "k"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (auth(NOW_MS), 10002),
        (auth(key="other"), 10003),
        (auth(secret="wrong"), 10004),
        (auth("soon"), 10001),
        ([], 10001),
        (None, 10001),
        (["k"], 10001),
    ],
)
def test_auth_is_refused_for_a_reason(args, code):
    with pytest.raises(Refused) as caught:
        check_auth(args, SECRETS, NOW_MS)
    assert caught.value.code == code
