"""The journal: every input of a run, in order, as NDJSON in zstd frames.

A run is a folder of segments, ``journal-000001.jsonl.zst``, ... An entry's position counts from
0 over the whole run. Nothing here knows what a frame says: that is the venue codec's business.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import zstandard

from bot.core.events import Input
from bot.ledger.segment import (
    FORMAT,
    VERSION,
    JournalError,
    NewerJournal,
    Segment,
    line_of,
    opening_of,
    segment_path,
    segments_of,
)

__all__ = [
    "JournalError",
    "JournalReader",
    "JournalWriter",
    "NewerJournal",
    "headers",
    "is_journal",
    "is_written",
    "read",
    "read_header",
]

_RESERVED: Final = frozenset(
    ("t", "format", "version", "run", "segment", "first_position", "created_ts")
)
_NOTHING: Final[Mapping[str, Any]] = {}
_encoder = msgspec.json.Encoder()


# --- Reading ----------------------------------------------------------------------------


class JournalReader:
    """The inputs of a segment file or of a run's folder, from position ``start`` on.

    ``torn`` says after a reading what was left out: the tail that a dying writer left, or
    damage. In a folder, a segment that follows a torn one goes on where the whole frames ended.

    Where earlier segments are gone, a recording's header has an ``opening`` instead: inputs that
    say what the market was when the segment began. They come first and have no position.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        """Raises JournalError where ``path`` is no journal, is too new, or misses a segment."""
        self._paths = _from(_chain(path), start)
        first = Segment(self._paths[0])
        self.header, self.torn = first.header, first.torn
        self._first_position = first.first_position
        opening = opening_of(first) if first.first_position > start else None
        self.opening = opening or []
        if path.is_dir() and first.first_position > start and opening is None:
            raise JournalError(
                f"{path}: begins at position {first.first_position}, not at {start}: "
                "its earlier segments are missing; put them back"
            )
        self.start = max(start, first.first_position)

    def __iter__(self) -> Iterator[Input]:
        """Raises JournalError where a segment does not continue the one before it."""
        self.torn = None
        end = self._first_position
        yield from self.opening
        for path in self._paths:
            segment = Segment(path)
            if segment.header:
                if segment.first_position != end:
                    raise JournalError(
                        f"{path}: starts at position {segment.first_position}, but what can be "
                        f"read before it ends at {end}: {self.torn or 'a segment was changed'}"
                    )
                yield from segment.inputs(skip=self.start - segment.first_position)
                end = segment.first_position + segment.entries
            self.torn = segment.torn or self.torn


def read(path: Path, start: int = 0) -> Iterator[Input]:
    """The inputs of a segment file or a run's folder, in order. Raises JournalError."""
    return iter(JournalReader(path, start))


def read_header(path: Path) -> dict[str, Any]:
    """The header of a segment file, or of a run's first segment. Raises JournalError."""
    first = Segment(_chain(path)[0])
    if not first.header:
        raise JournalError(f"{first.path}: its header is torn: {first.torn or 'an empty file'}")
    return first.header


def headers(path: Path) -> list[dict[str, Any]]:
    """The headers of a segment file, or of all of a run's segments. Raises JournalError."""
    return [header for each in _chain(path) if (header := Segment(each).header)]


def is_journal(path: Path) -> bool:
    """Whether ``path`` is a journal of a version that this program reads."""
    try:
        read_header(path)
    except JournalError:
        return False
    return True


def _chain(path: Path) -> list[Path]:
    """The segments that ``path`` names, in order and without a gap in their numbers."""
    if not path.is_dir():
        return [path]
    segments = segments_of(path)
    if not segments:
        raise JournalError(f"{path}: holds no journal segment (journal-000001.jsonl.zst, ...)")
    for number in range(min(segments), max(segments)):
        if number not in segments:
            missing = segment_path(path, number)
            raise JournalError(f"{missing}: missing, the run goes on after it; put it back")
    return list(segments.values())


def _from(paths: list[Path], start: int) -> list[Path]:
    """Leave out the segments that end before ``start``."""
    for index in range(len(paths) - 1, 0, -1):
        segment = Segment(paths[index])
        if segment.header and segment.first_position <= start:
            return paths[index:]
    return paths


# --- Writing ----------------------------------------------------------------------------


class JournalWriter:
    """Appends inputs to a new segment of the run in ``folder`` (named as the run).

    ``append`` is for the event loop and never blocks on the disk; ``flush`` does, in a thread,
    and ``append`` may go on meanwhile. A segment is full at ``segment_bytes`` compressed, so
    that a restart reads little to find its position. The folder is locked: one writer a run.
    """

    def __init__(
        self,
        folder: Path,
        header: Mapping[str, Any],
        *,
        chunk_entries: int = 500,
        chunk_s: float = 1.0,
        segment_bytes: int = 64 << 20,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """``header`` is plain JSON data for every segment's first line.

        Raises JournalError for a reserved key, an unreadable run or one that another process
        writes, OSError from the disk.
        """
        clash = sorted(header.keys() & _RESERVED)
        if clash:
            raise JournalError(f"{folder}: the journal header's own keys are taken: {clash}")
        self._folder, self._header, self._clock_ns = folder, dict(header), clock_ns
        self._chunk_entries, self._chunk_ns = chunk_entries, int(chunk_s * 1e9)
        self._segment_bytes = segment_bytes
        self._compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
        self._flush_lock, self._append_lock = threading.Lock(), threading.Lock()
        self._open, self._open_entries, self._open_since_ns = bytearray(), 0, 0
        self._sealed: deque[tuple[bytearray, int]] = deque()  # (lines, how many)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder_fd = _locked(folder)
        try:
            self._segment, self._position = _resume_at(folder)
            self._durable = self._position
            self._fd, self._size = self._new_segment()
        except BaseException:
            os.close(self._folder_fd)
            raise

    @property
    def position(self) -> int:
        """The position that the next entry gets."""
        return self._position

    @property
    def durable_position(self) -> int:
        """Entries on disk, counted over the whole run: those with a smaller position."""
        return self._durable

    @property
    def pending(self) -> int:
        """Entries that only memory holds; grows while the disk refuses them."""
        return self._position - self._durable

    @property
    def path(self) -> Path:
        """The segment now written."""
        return segment_path(self._folder, self._segment)

    @property
    def segment_size(self) -> int:
        """Bytes of the segment now written, those still in memory left out."""
        return self._size

    def append(self, item: Input) -> int:
        """Take one input in and return its position. Raises JournalError, then nothing is kept."""
        line = line_of(item)
        with self._append_lock:
            lines = self._open
            if not self._open_entries:
                self._open_since_ns = self._clock_ns()
            size = len(lines)
            try:
                _encoder.encode_into(line, lines, -1)
            except ValueError as error:
                del lines[size:]
                raise JournalError(f"not fit for the journal: {error}: {item!r:.200}") from error
            lines += b"\n"
            self._open_entries += 1
            if self._open_entries >= self._chunk_entries:
                self._seal()
            position = self._position
            self._position = position + 1
            return position

    def due(self, now_ns: int) -> bool:
        """Whether a chunk is full or old enough to be flushed."""
        if self._sealed:
            return True
        return self._open_entries > 0 and now_ns - self._open_since_ns >= self._chunk_ns

    def flush(self) -> None:
        """Compress, write and sync what was appended so far. Blocks; call it in a thread.

        An OSError (a full disk) leaves the file at its last whole frame and keeps the entries:
        a later call writes them.
        """
        with self._flush_lock:
            with self._append_lock:
                self._seal()
                chunks = list(self._sealed)
            if not chunks:
                return
            if self._size >= self._segment_bytes:
                self._next_segment()
            frames = b"".join(self._compressor.compress(lines) for lines, _ in chunks)
            self._write(frames)
            with self._append_lock:
                for _ in chunks:
                    self._durable += self._sealed.popleft()[1]

    def rotate(self, more: Mapping[str, Any]) -> None:
        """Flush, then begin a new segment whose header has ``more`` in it. Blocks.

        Nothing may be appended meanwhile if ``more`` says what came before. An OSError leaves the
        segment as it was; entries that it kept from the disk are written by a later call.
        """
        self.flush()
        with self._flush_lock:
            if self._fd >= 0:
                self._next_segment(more)

    def close(self) -> None:
        """Flush and close. An OSError from the flush comes out; the file is closed anyway."""
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            with self._flush_lock:
                os.close(self._fd)
                os.close(self._folder_fd)
                self._fd = -1

    def _seal(self) -> None:
        if self._open_entries:
            self._sealed.append((self._open, self._open_entries))
            self._open, self._open_entries = bytearray(), 0

    def _write(self, frames: bytes) -> None:
        try:
            os.ftruncate(self._fd, self._size)  # what a failed write may have left
            os.lseek(self._fd, self._size, os.SEEK_SET)
            _write_all(self._fd, frames)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(frames)

    def _next_segment(self, more: Mapping[str, Any] = _NOTHING) -> None:
        full = self._fd
        self._segment += 1
        try:
            self._fd, self._size = self._new_segment(more)
        except OSError:
            self._segment -= 1
            raise
        os.close(full)

    def _new_segment(self, more: Mapping[str, Any] = _NOTHING) -> tuple[int, int]:
        """Create the segment with its header, whole or not at all: (descriptor, bytes)."""
        head = {
            "t": "header",
            "format": FORMAT,
            "version": VERSION,
            "run": self._folder.name,
            "segment": self._segment,
            "first_position": self._durable,
            "created_ts": self._clock_ns(),
            **self._header,
            **more,
        }
        frame = self._compressor.compress(_encoder.encode(head) + b"\n")
        path = segment_path(self._folder, self._segment)
        draft = path.with_suffix(".new")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _write_all(fd, frame)
            os.fsync(fd)
            draft.rename(path)
            os.fsync(self._folder_fd)
        except OSError:
            os.close(fd)
            draft.unlink(missing_ok=True)
            raise
        return fd, len(frame)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _locked(folder: Path) -> int:
    """Open and lock a run's folder; the lock goes with the process, however it ends."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise JournalError(
            f"{folder}: another process writes this run; stop it, or start a run of its own (--new)"
        ) from error
    return fd


def is_written(folder: Path) -> bool:
    """Whether a process writes this run now."""
    try:
        os.close(_locked(folder))
    except JournalError:
        return True
    except FileNotFoundError:
        return False
    return False


def _resume_at(folder: Path) -> tuple[int, int]:
    """(number of the next segment, position of its first entry)."""
    segments = segments_of(folder)
    for path in reversed(segments.values()):
        segment = Segment(path)
        if segment.header:
            return max(segments) + 1, segment.first_position + segment.count()
    return max(segments, default=0) + 1, 0
