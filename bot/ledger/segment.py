"""One segment file of a journal: its lines, its header, its whole frames.

The first line is the header; every other line is one input. A segment is read as far as its
frames are whole and their checksums right: what follows a torn frame was never durable.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, TypeAlias

import msgspec
import zstandard

from bot.core.errors import PlainError
from bot.core.events import (
    BookUpdate,
    Connected,
    Disconnected,
    Event,
    Frame,
    Input,
    Prediction,
    Trade,
)

FORMAT: Final = "kvtrader-journal"
VERSION: Final = 1
_NAME: Final = re.compile(r"journal-(\d{6,})\.jsonl\.zst")
_MAGIC: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1
_READ_BYTES: Final = 1 << 16


class JournalError(PlainError):
    """The journal cannot be used; one line says which file, why, and the way out."""


class NewerJournal(JournalError):
    """A journal, but of a version that only a newer program reads."""


# --- Lines ------------------------------------------------------------------------------


class _Recv(msgspec.Struct, tag_field="t", tag="recv", omit_defaults=True, gc=False):
    conn: str
    ts: int
    data: str
    b64: bool = False


class _Connect(msgspec.Struct, tag_field="t", tag="connect", frozen=True, gc=False):
    conn: str
    ts: int
    category: str


class _Disconnect(msgspec.Struct, tag_field="t", tag="disconnect", frozen=True, gc=False):
    conn: str
    ts: int
    reason: str


class _EventLine(msgspec.Struct, tag_field="t", tag="event", frozen=True, gc=False):
    event: Event


Line: TypeAlias = _Recv | _Connect | _Disconnect | _EventLine
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def line_of(item: Input) -> Line:
    """The line of an input. Raises JournalError for one that would not come back exactly."""
    match item:
        case Frame():
            try:
                return _Recv(item.conn, item.ts, item.data.decode())
            except UnicodeDecodeError:
                text = base64.b64encode(item.data).decode()
                return _Recv(item.conn, item.ts, text, b64=True)
        case Connected():
            return _Connect(item.conn, item.ts, item.category)
        case Disconnected():
            return _Disconnect(item.conn, item.ts, item.reason)
        case Trade() | BookUpdate():
            _refuse(item, "it enters as the frame that carried it")
        case Prediction():
            if not _is_finite(item):
                _refuse(item, "JSON has no number for NaN or infinity")
    return _EventLine(item)


def input_of(line: Line) -> Input:
    """The input of a line. Raises ValueError for bad base64."""
    match line:
        case _Recv():
            data = base64.b64decode(line.data, validate=True) if line.b64 else line.data.encode()
            return Frame(line.ts, line.conn, data)
        case _Connect():
            return Connected(line.ts, line.conn, line.category)
        case _Disconnect():
            return Disconnected(line.ts, line.conn, line.reason)
        case _EventLine():
            return line.event


def opening_lines(inputs: Iterable[Input]) -> list[Line]:
    """The ``opening`` of a header. Raises JournalError for what is not fit for the journal."""
    return [line_of(item) for item in inputs]


def opening_of(segment: Segment) -> list[Input] | None:
    """The inputs of a header's ``opening``, None without one. Raises JournalError."""
    if "opening" not in segment.header:
        return None
    try:
        return [input_of(line) for line in msgspec.convert(segment.header["opening"], list[Line])]
    except ValueError as error:
        raise JournalError(
            f"{segment.path}: its header's opening cannot be read: {error}"
        ) from error


def _refuse(item: Event, why: str) -> NoReturn:
    raise JournalError(f"a {type(item).__name__} is not fit for the journal: {why}: {item!r:.200}")


def _is_finite(prediction: Prediction) -> bool:
    return math.isfinite(prediction.price + (prediction.weight or 0.0)) and all(
        math.isfinite(number)
        for each in prediction.horizons
        for number in (
            each.expected_return,
            each.up_probability,
            each.confidence,
            *each.quantiles,
        )
    )


# --- Files ------------------------------------------------------------------------------


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"journal-{number:06d}.jsonl.zst"


def segments_of(folder: Path) -> dict[int, Path]:
    """The segments of a run's folder by number, in order. Raises JournalError."""
    try:
        found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    except OSError as error:
        raise JournalError(f"{folder}: cannot be read: {error.strerror}") from error
    return dict(sorted((int(match[1]), path) for match, path in found if match))


class Segment:
    """Reads one segment file. ``torn`` says after the reading what ended it early, or is None.

    ``entries`` counts what was read so far; ``header`` is empty where even it is torn. Raises
    JournalError for a file that cannot be read, is no journal, or comes from a newer program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn: str | None = None
        self.entries = 0
        self._frames = self._whole_frames()
        first = next(self._frames, b"")
        line, _, self._after_header = first.partition(b"\n")
        self.header: dict[str, Any] = _parse_header(path, line) if first else {}

    @property
    def first_position(self) -> int:
        """Position of the first entry in the run."""
        return int(self.header.get("first_position", 0))

    def count(self) -> int:
        """Count the entries without decoding them. For one pass."""
        self.entries = sum(chunk.count(b"\n") for chunk in self.chunks())
        return self.entries

    def chunks(self) -> Iterator[bytes]:
        """The entries' lines, a whole frame at a time. For one pass."""
        if self._after_header:
            yield self._after_header
        yield from self._frames

    def inputs(self, skip: int = 0) -> Iterator[Input]:
        """The entries but the first ``skip``, never half a frame. For one pass."""
        for chunk in self.chunks():
            here = max(0, skip - self.entries)
            count = chunk.count(b"\n")
            if here >= count:
                self.entries += count
                continue
            try:
                items = [input_of(line) for line in _decoder.decode_lines(chunk)]
            except ValueError as error:  # msgspec's errors and base64's
                self.torn = f"{self.path}: a line that cannot be read: {error}"
                return
            self.entries += count
            yield from items[here:]

    def _whole_frames(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                data = file.read(_READ_BYTES)
                if not _MAGIC.startswith(data[:4]):
                    raise JournalError(f"{self.path}: not a journal (not zstd data)")
                while data:
                    frame, data = self._one_frame(file, data)
                    if self.torn:
                        return
                    yield frame
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be read: {error.strerror}") from error

    def _one_frame(self, file: BinaryIO, data: bytes) -> tuple[bytes, bytes]:
        """The text of the frame that starts in ``data``, and the bytes after the frame."""
        unzip = zstandard.ZstdDecompressor().decompressobj()
        text = bytearray()
        while data:
            try:
                text += unzip.decompress(data)
            except zstandard.ZstdError as error:
                self.torn = f"{self.path}: a damaged frame: {error}"
                return b"", b""
            if unzip.eof:
                if not text.endswith(b"\n"):
                    self.torn = f"{self.path}: a frame that ends within a line"
                return bytes(text), unzip.unused_data or file.read(_READ_BYTES)
            data = file.read(_READ_BYTES)
        self.torn = f"{self.path}: the last frame is cut short"
        return b"", b""


def _parse_header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = msgspec.json.decode(line)
    except ValueError as error:
        raise JournalError(f"{path}: not a journal: its first line is not JSON: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise JournalError(f"{path}: not a journal: no header of format {FORMAT!r}")
    version = header.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise NewerJournal(
            f"{path}: journal version {version!r}, newer than this program reads ({VERSION}); "
            "upgrade kvtrader"
        )
    if not isinstance(header.get("first_position"), int):
        raise JournalError(f"{path}: its header has no first_position")
    return header
