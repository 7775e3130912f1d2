"""Raw captures of Bybit's public traffic, as the inputs that the live bot would have had.

A capture is one JSON object a line, plain or in zstd frames. ``t`` tells the kinds apart:
``recv``, ``connect``, ``send`` and ``http``, with the local time ``ts`` in seconds; a ``header``
may come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

import msgspec
import structlog
import zstandard
from msgspec import Struct

from bot.core.errors import PlainError
from bot.core.events import Connected, Disconnected, Frame, Input
from bot.venue.answers import MalformedAnswer, parse_instruments
from bot.venue.payloads import MS
from bot.venue.topics import CATEGORIES

log = structlog.get_logger()

_READ_BYTES = 1 << 18
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class CaptureError(PlainError):
    """The file cannot be read as a capture; the text says where, and why."""


class Capture(Struct, frozen=True):
    """What a capture holds, in the order of its local time.

    ``truncated`` says how the file's end is missing; empty for a whole file. ``ignored`` counts
    the lines of kinds that are not known here.
    """

    inputs: tuple[Input, ...]
    truncated: str = ""
    ignored: int = 0

    def __iter__(self) -> Iterator[Input]:
        return iter(self.inputs)


def read_capture(path: Path) -> Capture:
    """Read the whole capture into memory, merged by local time; equal times keep their order.

    ``connect`` becomes Connected, ``recv`` a Frame, and an instruments-info answer the
    Instruments of the symbols that were subscribed (of all, where nothing was). A file whose end
    is missing gives what it holds, and says so in ``truncated``. Raises CaptureError for whatever
    else cannot be read.
    """
    reading = _Reading()
    truncated = ""
    try:
        try:
            for line in _lines(path):
                reading.take(line)
        except _EndsEarly as early:
            truncated = f"{early} after line {reading.number}"
        inputs = reading.finish()
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror}") from error
    except zstandard.ZstdError as error:
        raise CaptureError(f"{path}: not zstd after line {reading.number}: {error}") from error
    except (ValueError, MalformedAnswer) as error:  # msgspec's and Unicode's are ValueErrors
        raise CaptureError(f"{path}: line {reading.number}: {error}") from error
    if not reading.number:
        raise CaptureError(f"{path}: {truncated or 'is empty'}")
    if truncated:
        log.warning("capture is truncated", path=str(path), cause=truncated)
    if reading.ignored:
        log.warning("capture has lines of unknown kinds", path=str(path), lines=reading.ignored)
    return Capture(inputs, truncated, reading.ignored)


def is_capture(path: Path) -> bool:
    """Whether the first line is a capture's; False for a folder and for what cannot be read."""
    try:
        return isinstance(_any_line.decode(next(_lines(path), b"")), _Line)
    except (OSError, _EndsEarly, zstandard.ZstdError, msgspec.MsgspecError, UnicodeDecodeError):
        return False


# --- Lines --------------------------------------------------------------------------------


class _Header(Struct, tag_field="t", tag="header"):
    pass


class _Recv(Struct, tag_field="t", tag="recv"):
    ts: Decimal
    conn: str
    data: str


class _Connect(Struct, tag_field="t", tag="connect"):
    ts: Decimal
    conn: str
    addr: str


class _Send(Struct, tag_field="t", tag="send"):
    addr: str
    data: str


class _Http(Struct, tag_field="t", tag="http"):
    ts: Decimal
    url: str
    data: str


_Line = _Header | _Recv | _Connect | _Send | _Http


class _Kind(Struct):
    t: str


class _Request(Struct):
    op: str = ""
    args: list[object] = []


class _Answer(Struct):
    ret_code: int = msgspec.field(name="retCode")
    time: int
    result: dict[str, object]


_any_line = msgspec.json.Decoder(_Line)
_kind = msgspec.json.Decoder(_Kind)
_request = msgspec.json.Decoder(_Request)
_answer = msgspec.json.Decoder(_Answer)


class _EndsEarly(Exception):
    """The file stops in the middle of a line or of a zstd frame."""


class _Reading:
    """A capture while it is read, line by line."""

    def __init__(self) -> None:
        self.number = 0
        self.ignored = 0
        self._inputs: list[Input] = []
        self._answers: list[tuple[int, _Http]] = []
        self._categories: dict[str, str] = {}
        self._subscribed: set[str] = set()

    def take(self, text: bytes) -> None:
        """Take one line. Raises ValueError if it does not say what its kind must."""
        self.number += 1
        try:
            line = _any_line.decode(text)
        except msgspec.ValidationError:
            if _kind.decode(text).t in ("header", "recv", "connect", "send", "http"):
                raise
            self.ignored += 1
            return
        except msgspec.DecodeError as error:
            if not text.endswith(b"\n"):
                self.number -= 1
                raise _EndsEarly("a line is cut off") from error
            raise
        match line:
            case _Recv():
                if line.conn not in self._categories:
                    raise ValueError(f"a frame of {line.conn!r}, which did not connect")
                self._inputs.append(Frame(_ns(line.ts), line.conn, line.data.encode()))
            case _Connect():
                self._connect(line)
            case _Send():
                self._send(line)
            case _Http():
                if urlsplit(line.url).path.endswith("/market/instruments-info"):
                    self._answers.append((self.number, line))
            case _Header():
                pass

    def finish(self) -> tuple[Input, ...]:
        """Everything taken, in the order of time."""
        for number, line in self._answers:
            self.number = number
            self._inputs.extend(self._instruments(line))
        return tuple(sorted(self._inputs, key=lambda item: item.ts))

    def _connect(self, line: _Connect) -> None:
        ts = _ns(line.ts)
        if line.conn in self._categories:
            # The capture does not say when the old socket was lost, only that it must have been.
            self._inputs.append(Disconnected(ts, line.conn, "connected again"))
        self._categories[line.conn] = _category(line.addr)
        self._inputs.append(Connected(ts, line.conn, self._categories[line.conn]))

    def _send(self, line: _Send) -> None:
        request = _request.decode(line.data)
        if request.op == "subscribe":
            category = _category(line.addr)
            names = (str(topic).rpartition(".")[2] for topic in request.args)
            self._subscribed.update(f"{category}:{name}" for name in names)

    def _instruments(self, line: _Http) -> Iterator[Input]:
        answer = _answer.decode(line.data)
        if answer.ret_code:
            log.warning("captured answer is a refusal", url=line.url, code=answer.ret_code)
            return
        category = parse_qs(urlsplit(line.url).query).get("category", [""])[0]
        wanted = self._subscribed or None
        yield from parse_instruments(
            category, answer.result, _ns(line.ts), answer.time * MS, wanted=wanted
        )


def _ns(seconds: Decimal) -> int:
    return int(seconds * 1_000_000_000)


def _category(address: str) -> str:
    category = urlsplit(address).path.rpartition("/")[2]
    if category not in CATEGORIES:
        raise ValueError(f"{address!r} is no stream of {' or '.join(CATEGORIES)}")
    return category


# --- Bytes --------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[bytes]:
    """The lines with their ends; the last may have none. Raises _EndsEarly, OSError, ZstdError."""
    rest = b""
    with path.open("rb") as file:
        for chunk in _chunks(file, named_zstd=path.suffix == ".zst"):
            *whole, rest = (rest + chunk).splitlines(keepends=True) or [b""]
            if rest.endswith(b"\n"):
                whole, rest = [*whole, rest], b""
            yield from whole
    if rest:
        yield rest


def _chunks(file: BinaryIO, *, named_zstd: bool) -> Iterator[bytes]:
    chunk = file.read(_READ_BYTES)
    if not (named_zstd or chunk.startswith(_ZSTD_MAGIC)):
        while chunk:
            yield chunk
            chunk = file.read(_READ_BYTES)
        return
    frame = None
    while chunk:
        if frame is None:
            frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(chunk)
        chunk = b""
        if frame.eof:
            chunk, frame = frame.unused_data, None
        chunk = chunk or file.read(_READ_BYTES)
    if frame is not None:
        raise _EndsEarly("a zstd frame is cut off")
