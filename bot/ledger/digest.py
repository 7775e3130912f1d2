"""The digest of a run: SHA-256 over one line per fact, in order.

A line is JSON with sorted keys, the fact's kind under ``type``, decimals as plain strings
without trailing zeros, times as integer ns. Two runs that decided the same have the same digest,
whatever the machine, the process, or the way they took there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, Final, TypeAlias, get_args, get_type_hints

import msgspec

from bot.core.events import Amend, Fact, Order
from bot.ledger import native

Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = dict[type[Fact], list[Row]]
Place: TypeAlias = tuple[str, int, int]
"""Where a step's facts stand: the run, the number of the first, the journal position."""

_HASHED_AT: Final = 16_384
"""Bytes of lines that wait to be hashed at once: a call for each line costs more than its hash."""
encode: Final = msgspec.json.Encoder().encode


def plain(number: Decimal) -> str:
    """A decimal in one way only: 100 (not 1E+2), 0.0000001 (not 1E-7), 1.5 (not 1.50)."""
    text = str(number)
    if "E" in text:
        text = format(number, "f")
    if text[-1] == "0" and "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


class FactDigest:
    """A SHA-256 that takes facts."""

    __slots__ = ("_hash", "_lines")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._lines = bytearray()

    def update(self, fact: Fact) -> None:
        lines = self._lines
        _WRITER_OF[type(fact)](fact, (), lines)
        if len(lines) >= _HASHED_AT:
            self._hash_lines()

    def take(
        self, facts: tuple[Fact, ...], place: Place, named: AbstractSet[type[Fact]], rows: Rows
    ) -> None:
        """Take a step's facts, and add their rows to ``rows``.

        A row is (run id, fact number, journal position, the kind's name if the kind is in
        ``named``), then the fact's ``plain_values``.
        """
        lines = self._lines
        _take_step(named, facts, place, lines, rows)
        if len(lines) >= _HASHED_AT:
            self._hash_lines()

    def update_plain(self, kind: type[Fact], values: list[Any]) -> None:
        """Take a fact that is already ``plain_values``."""
        self._lines += _line(kind, values)
        if len(self._lines) >= _HASHED_AT:
            self._hash_lines()

    def hexdigest(self) -> str:
        """The digest of the facts so far; more may follow."""
        self._hash_lines()
        return self._hash.hexdigest()

    def copy(self) -> FactDigest:
        self._hash_lines()
        twin = FactDigest()
        twin._hash = self._hash.copy()
        return twin

    def _hash_lines(self) -> None:
        self._hash.update(self._lines)
        self._lines.clear()


def line_of(fact: Fact) -> bytes:
    """The line that stands for a fact, newline ended."""
    return _line(type(fact), plain_values(fact))


def plain_values(fact: Fact) -> list[Any]:
    """A fact's values in the order of ``FIELDS``, decimals as plain text."""
    values_of, decimals, _, _ = _SHAPES[type(fact)]
    values = list(values_of(fact))
    for index in decimals:
        number = values[index]
        if number is not None:
            values[index] = plain(number)
    return values


def write(fact: Fact, head: Row, lines: bytearray) -> Row:
    """Append a fact's line to ``lines``; returns ``head``, then the fact's plain values."""
    values = plain_values(fact)
    lines += _line(type(fact), values)
    return (*head, *values)


def write_step(
    named: AbstractSet[type[Fact]],
    facts: tuple[Fact, ...],
    place: Place,
    lines: bytearray,
    rows: Rows,
) -> None:
    """Append the facts' lines to ``lines``, and their rows, as ``take`` has them, to ``rows``."""
    run_id, first, position = place
    for n, fact in enumerate(facts, first):
        kind = type(fact)
        head: Row = (run_id, n, position)
        if kind in named:
            head = (*head, kind.__name__)
        rows.setdefault(kind, []).append(write(fact, head, lines))


def _line(kind: type[Fact], values: list[Any]) -> bytes:
    _, _, tag_at, row = _SHAPES[kind]
    later = _LATER_OF.get(kind)
    if later is not None:
        if later.is_unused(values):
            values, tag_at, row = later.others(values), later.tag_at, later.row
        else:
            values = [
                msgspec.UNSET if value is None and index in later.places else value
                for index, value in enumerate(values)
            ]
    return encode(row(*values[:tag_at], kind.__name__, *values[tag_at:])) + b"\n"


def decimal_fields(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a struct that hold decimals, sorted."""
    hints = get_type_hints(kind)
    return tuple(
        name
        for name in sorted(kind.__struct_fields__)
        if hints[name] is Decimal or Decimal in get_args(hints[name])
    )


def _shape(
    kind: type[Any],
) -> tuple[Callable[[Any], tuple[Any, ...]], tuple[int, ...], int, Callable[..., Any]]:
    """(getter of the sorted fields, which are decimals, where the tag goes, what encodes them).

    A struct with the sorted fields encodes twice as fast as a dict.
    """
    fields = FIELDS[kind]
    keys = sorted([*fields, "type"])
    row = msgspec.defstruct(kind.__name__, [(key, Any) for key in keys], gc=False)
    decimals = tuple(fields.index(name) for name in decimal_fields(kind))
    return attrgetter(*fields), decimals, keys.index("type"), row


FIELDS: Final = {kind: tuple(sorted(kind.__struct_fields__)) for kind in get_args(Fact)}
"""The fields of every kind of fact, sorted."""
_SHAPES: Final = {kind: _shape(kind) for kind in get_args(Fact)}

LATER: Final[dict[type[Any], tuple[str, ...]]] = {
    Order: (
        "trigger_price", "trigger_by", "trigger_direction", "stop_type",
        "take_profit", "take_profit_by", "stop_loss", "stop_loss_by",
    ),
    Amend: ("trigger_price",),
}  # fmt: skip
"""Fields that most facts of their kind do not use, left out of the line while they are None: a
digest from before they existed is still the digest of the same facts."""


class _Later:
    """A kind's later fields, and how it is written without any of them."""

    def __init__(self, kind: type[Any]) -> None:
        fields, later = FIELDS[kind], LATER[kind]
        kept = [name for name in fields if name not in later]
        keys = sorted([*kept, "type"])
        self.places = frozenset(map(fields.index, later))
        self.tag_at = keys.index("type")
        self.row = msgspec.defstruct(kind.__name__, [(key, Any) for key in keys], gc=False)
        self.others: Callable[[list[Any]], Any] = itemgetter(*map(fields.index, kept))
        self._nones = (None,) * (len(later) + 1)
        self._later = itemgetter(*self.places, min(self.places))  # two at least: a tuple

    def is_unused(self, values: list[Any]) -> bool:
        return bool(self._later(values) == self._nones)


_LATER_OF: Final = {kind: _Later(kind) for kind in LATER}


_WRITER_OF: dict[type[Any], Callable[[Fact, Row, bytearray], Row]]
_take_step: Callable[[AbstractSet[type[Fact]], tuple[Fact, ...], Place, bytearray, Rows], None]
if native.available():
    _NATIVE: Final = {
        kind: native.Shape(
            kind.__name__, FIELDS[kind], decimal_fields(kind), LATER.get(kind, ()), plain, encode
        )
        for kind in get_args(Fact)
    }
    _WRITER_OF = {kind: shape.row for kind, shape in _NATIVE.items()}
    _take_step = partial(native.take_step, _NATIVE)
else:
    _WRITER_OF = dict.fromkeys(get_args(Fact), write)
    _take_step = write_step
