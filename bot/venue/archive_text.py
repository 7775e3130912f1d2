"""The lines of an archive file, however it is packed, and what is done about damage.

Nothing here knows what a line says.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import structlog

from bot.core.errors import PlainError

log = structlog.get_logger()

_READ_BYTES = 1 << 15
_LINE_MAX_BYTES = 8 << 20
"""A longer line is no line: Bybit's snapshots of 1000 levels a side have 60 kB."""
_GZIP = b"\x1f\x8b"
_ZIP = b"PK"
_GZIP_WBITS = 31
_AROUND = b"\r\xef\xbb\xbf"
"""Carriage returns, and the byte-order mark that some programs put first."""


class ArchiveError(PlainError):
    """An archive cannot be used; the text names file, line and value, and the way out."""


class Damage:
    """What is wrong with the files of one reading.

    Strict, the first finding is raised. Repairing, findings are counted by kind, the first of
    each kind is logged, and the reader goes on as the page docs/data.md says.
    """

    def __init__(self, *, repair: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._repair = repair

    def report(self, kind: str, text: str) -> None:
        """Raises ArchiveError unless repairing."""
        if not self._repair:
            raise ArchiveError(f"{text} ({kind}; --repair goes on without it)")
        if not self.counts[kind]:
            log.warning("archive repaired", kind=kind, first=text)
        self.counts[kind] += 1


class Place:
    """Where a reader stands: one file and, once its first line is read, the line's number."""

    def __init__(self, path: Path, damage: Damage) -> None:
        self.path = path
        self.line = 0
        self._damage = damage

    def __str__(self) -> str:
        return f"{self.path}: line {self.line}" if self.line else str(self.path)

    def report(self, kind: str, text: str) -> None:
        """Report damage of this line. Raises ArchiveError unless repairing."""
        self._damage.report(kind, f"{self}: {text}")

    def bad_row(self, line: bytes, error: Exception) -> None:
        """Report a row that does not say what its columns promise."""
        self.report("bad row", f"{_cause(error)} in {_short(line)}")


class _BrokenError(Exception):
    """The packing ends the file early. ``args``: kind, text."""


# --- Lines ------------------------------------------------------------------------------------


def lines(place: Place) -> Iterator[bytes]:
    """The lines of a plain, gzip or zip file without their ends; blank ones are left out.

    A damaged end gives the whole lines before it. Raises ArchiveError, also for what no repair
    helps: a file that is not there, a zip of several files.
    """
    rest = b""
    is_empty = True
    place.line = 0
    try:
        with place.path.open("rb") as file:
            for chunk in _chunks(place.path, file):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    place.line += 1
                    if stripped := line.strip(_AROUND):
                        is_empty = False
                        yield stripped
                _require_line(rest)
    except _BrokenError as broken:
        kind, text = broken.args
        place.report(kind, text)
        return
    except OSError as error:
        raise ArchiveError(f"{place.path}: cannot be read: {error.strerror or error}") from error
    if rest := rest.strip(_AROUND):
        place.line += 1
        yield rest
    elif is_empty:
        place.report("empty", "has no line")


def oldest_first(place: Place, stamp_of: Callable[[bytes], int | None]) -> Iterator[bytes]:
    """The lines in the order of time: Bybit's old trade files have the newest trade first.

    ``stamp_of`` gives a line's time, None where there is none. A file counts as newest first if
    the first two different stamps fall; it is read backwards from a temporary file, so that it
    needs no more memory than others.
    """
    stream = lines(place)
    ahead: list[tuple[int, bytes]] = []
    first: int | None = None
    is_falling = False
    for line in stream:
        ahead.append((place.line, line))
        stamp = stamp_of(line)
        if first is None:
            first = stamp
        elif stamp is not None and stamp != first:
            is_falling = stamp < first
            break
    if not is_falling:
        for number, line in ahead:
            last, place.line = place.line, number
            yield line
            place.line = last
        yield from stream
        return
    with TemporaryFile() as spool:
        for number, line in ahead:
            spool.write(b"%d %b\n" % (number, line))
        for line in stream:
            spool.write(b"%d %b\n" % (place.line, line))
        for line in _backwards(spool):
            number_text, _, text = line.partition(b" ")
            place.line = int(number_text)
            yield text


def columns(place: Place, header: bytes, wanted: Sequence[str]) -> Callable[[bytes], list[str]]:
    """How to take the ``wanted`` columns, in that order, from a row below ``header``.

    What it gives raises ValueError for a row of another length. Raises ArchiveError if a column
    is missing.
    """
    names = [name.strip().lower() for name in header.decode("utf-8", "replace").split(",")]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ArchiveError(f"{place}: no column {', '.join(missing)} in {_short(header)}")
    pick = itemgetter(*(names.index(name) for name in wanted))
    count = len(names)

    def cells(line: bytes) -> list[str]:
        row = line.decode().split(",")
        if len(row) != count:
            raise ValueError(f"{len(row)} columns, not {count},")
        return list(pick(row))

    return cells


def require_symbol(found: str, name: str) -> None:
    """Raise ValueError if a row speaks of another symbol than its file."""
    if found != name:
        raise ValueError(f"{found!r}, in a file of {name!r},")


def head(path: Path) -> bytes:
    """The first line. Raises ArchiveError where there is none to be had."""
    line = next(lines(Place(path, Unreported())), b"")
    return line or next(lines(Place(path, Damage())), b"")


class Unreported(Damage):
    """For a look at the head: whoever reads the file will find its damage."""

    def report(self, kind: str, text: str) -> None:
        """Say nothing."""


# --- Packing ----------------------------------------------------------------------------------


def _chunks(path: Path, file: BinaryIO) -> Iterator[bytes]:
    data = file.read(_READ_BYTES)
    if data.startswith(_GZIP):
        yield from _gunzipped(file, data)
    elif data.startswith(_ZIP):
        yield from _member(path)
    else:
        while data:
            yield data
            data = file.read(_READ_BYTES)


def _gunzipped(file: BinaryIO, data: bytes) -> Iterator[bytes]:
    """Every member in turn (RFC 1952, 2.2)."""
    while data:
        unzip = zlib.decompressobj(_GZIP_WBITS)
        while not unzip.eof:
            if not data:
                raise _BrokenError("truncated", "the gzip data ends early")
            try:
                yield unzip.decompress(data, _READ_BYTES)
            except zlib.error as error:
                raise _BrokenError("corrupt", f"not gzip data: {error}") from error
            data = unzip.unconsumed_tail
            if not (data or unzip.eof):
                data = file.read(_READ_BYTES)
        data = unzip.unused_data.lstrip(b"\0") or file.read(_READ_BYTES)


def _member(path: Path) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(path) as packed:
            members = [each for each in packed.infolist() if not each.is_dir()]
            if len(members) != 1:
                raise ArchiveError(f"{path}: {len(members)} files in the zip, want one; unzip it")
            with packed.open(members[0]) as file:
                while data := file.read(_READ_BYTES):
                    yield data
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise _BrokenError("corrupt", f"the zip is damaged or cut off: {error}") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, an unknown compression
        raise ArchiveError(f"{path}: cannot be unzipped: {error}; unzip it") from error


def _backwards(spool: BinaryIO) -> Iterator[bytes]:
    """The lines of a file that ends with a line end, last first."""
    end = spool.seek(0, 2)
    rest = b""
    while end:
        start = max(0, end - _READ_BYTES)
        spool.seek(start)
        rest, *whole = (spool.read(end - start) + rest).split(b"\n")
        yield from (line for line in reversed(whole) if line)
        end = start
    if rest:
        yield rest


def _require_line(rest: bytes) -> None:
    if len(rest) > _LINE_MAX_BYTES:
        raise _BrokenError("corrupt", f"a line of over {_LINE_MAX_BYTES} bytes")


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"not a number: {error!r}"


def _short(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return repr(text if len(text) <= 120 else f"{text[:120]}...")
