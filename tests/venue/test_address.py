from __future__ import annotations

import ssl

import pytest

from bot.venue.address import VenueUnreachable, cause_of, public_url, rest_url


def test_bybits_addresses():
    assert public_url("mainnet", "linear") == "wss://stream.bybit.com/v5/public/linear"
    assert public_url("testnet", "spot") == "wss://stream-testnet.bybit.com/v5/public/spot"
    assert rest_url("mainnet") == "https://api.bybit.com"
    assert rest_url("testnet") == "https://api-testnet.bybit.com"


def test_a_local_venue_is_given_by_its_base():
    assert public_url("ws://127.0.0.1:81/", "spot") == "ws://127.0.0.1:81/v5/public/spot"
    assert rest_url("http://127.0.0.1:80") == "http://127.0.0.1:80"


@pytest.mark.parametrize("url", [public_url, lambda venue, _: rest_url(venue)])
def test_another_word_is_an_error(url):
    with pytest.raises(ValueError, match="'livenet': give mainnet, testnet, or a URL"):
        url("livenet", "spot")


def test_an_unreachable_bybit_points_to_the_local_market():
    error = VenueUnreachable("wss://stream.bybit.com/v5/public/linear", "Connection refused")
    assert str(error) == (
        "wss://stream.bybit.com/v5/public/linear cannot be reached: Connection refused. "
        "For a market on this machine: bot paper --venue local"
    )


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 9)"), "Connection refused"),
        (OSError("Multiple exceptions:\n [Errno 111] a,\n [Errno 101] b"),
         "Multiple exceptions: [Errno 111] a, [Errno 101] b"),
        (ssl.SSLCertVerificationError(1, "self-signed certificate"), "self-signed certificate"),
        (TimeoutError(), "no answer in time"),
    ],
)  # fmt: skip
def test_causes_are_one_line(error, cause):
    assert cause in cause_of(error)
    assert "\n" not in cause_of(error)
