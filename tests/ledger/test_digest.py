import hashlib
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import events
from bot.core.events import Cancel, Cancelled, Order, Signal
from bot.ledger.digest import LATER, FactDigest, line_of, plain
from tests.ledger.strategies import of

FACTS = [
    Signal(1, "maker", "linear:BTCUSDT", 0.25, 'é "quoted"'),
    Order(2, 1, "maker", "linear:BTCUSDT", "Buy", "Limit", "PostOnly", Decimal("1E+2")),
    Cancel(3, 1, "linear:BTCUSDT"),
    Cancelled(4, 5, 6, 1, "linear:BTCUSDT", Decimal("0.00000010"), "EC_PerCancelRequest"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1E+2", "100"),
        ("1E-7", "0.0000001"),
        ("100", "100"),
        ("1.50", "1.5"),
        ("1.00", "1"),
        ("0.0", "0"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("0E-20", "0"),
        ("-1.10", "-1.1"),
        (
            "1234567890123456789012345678901234567890.10",
            "1234567890123456789012345678901234567890.1",
        ),
    ],
)
def test_a_decimal_is_written_in_one_way(text, expected):
    assert plain(Decimal(text)) == expected


@given(of(Decimal))
def test_the_plain_text_of_a_decimal_keeps_its_exact_value(number):
    text = plain(number)
    assert Decimal(text) == number
    assert "E" not in text


@pytest.mark.parametrize("kind", get_args(events.Fact), ids=lambda kind: kind.__name__)
def test_a_line_is_json_with_sorted_keys_and_every_field(kind):
    @settings(max_examples=40, deadline=None)
    @given(of(kind))
    def check(fact):
        line = line_of(fact)
        assert line.endswith(b"\n")
        row = json.loads(line)
        assert list(row) == sorted(row)
        assert row.pop("type") == kind.__name__
        assert row == {
            name: plain(value) if isinstance(value, Decimal) else value
            for name, value in msgspec.structs.asdict(fact).items()
            if value is not None or name not in LATER.get(kind, ())
        }

    check()


def test_the_digest_is_sha256_over_the_lines():
    digest = FactDigest()
    for fact in FACTS:
        digest.update(fact)
    text = (
        '{"reason":"é \\"quoted\\"","strategy":"maker","symbol":"linear:BTCUSDT","target":0.25,'
        '"ts":1,"type":"Signal"}\n'
        '{"id":1,"order_type":"Limit","price":null,"qty":"100","reduce_only":false,"side":"Buy",'
        '"strategy":"maker","symbol":"linear:BTCUSDT","tag":"","tif":"PostOnly","ts":2,'
        '"type":"Order"}\n'
        '{"order_id":1,"symbol":"linear:BTCUSDT","ts":3,"type":"Cancel"}\n'
        '{"answer_ts":6,"exchange_ts":5,"leaves":"0.0000001","order_id":1,'
        '"reason":"EC_PerCancelRequest","symbol":"linear:BTCUSDT","ts":4,"type":"Cancelled"}\n'
    )
    assert digest.hexdigest() == hashlib.sha256(text.encode()).hexdigest()


@given(st.lists(of(events.Fact), max_size=4), st.lists(of(events.Fact), max_size=4))
@settings(max_examples=30, deadline=None)
def test_a_copy_goes_its_own_way(first, second):
    one = FactDigest()
    for fact in first:
        one.update(fact)
    before = one.hexdigest()
    two = one.copy()
    for fact in second:
        two.update(fact)
    assert one.hexdigest() == before
    assert (two.hexdigest() == before) == (not second)


CHILD = """
from tests.ledger.test_digest import FACTS
from bot.ledger.digest import FactDigest
digest = FactDigest()
for fact in FACTS:
    digest.update(fact)
print(digest.hexdigest())
"""


def test_two_processes_with_other_hash_seeds_give_the_same_digest():
    digests = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == 64
