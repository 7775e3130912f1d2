"""A run's whole state as bytes, and a run made again from them.

JSON of structs (no pickle), compressed; what is in the engine is told in bot/core/snapshot.py.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import zstandard
from msgspec import Struct

from bot.core import snapshot as engine_state
from bot.core.snapshot import SavedEngine, SnapshotError
from bot.run import Run
from bot.scoring import State as ScoringState
from bot.venue import codec_state
from bot.venue.codec_state import SavedCodec

FORMAT = 1
"""A snapshot of another format is not read: the journal is stepped instead."""
_MAX_BYTES = 1 << 30


class SavedRun(Struct):
    """The fields of ``Run`` that change, and its parts."""

    position: int
    events: int
    counts: dict[str, int]
    untrained: list[str]
    has_ended: bool
    was_live: list[str]
    _equity_due_ns: int
    codec: SavedCodec
    engine: SavedEngine
    scoring: ScoringState


class _Body(Struct):
    format: int
    run: msgspec.Raw


_PLAIN = ("position", "events", "has_ended", "_equity_due_ns")


def saved(run: Run) -> bytes:
    """The state between two inputs. Raises SnapshotError for a strategy that cannot be saved."""
    state = SavedRun(
        **{name: getattr(run, name) for name in _PLAIN},
        counts=dict(run.counts),
        untrained=sorted(run.untrained),  # A set's order is not the same in another process.
        was_live=sorted(run.was_live),
        codec=codec_state.save(run.codec),
        engine=engine_state.save(run.engine),
        scoring=run.scoring.state,
    )
    body = _Body(FORMAT, msgspec.Raw(msgspec.json.encode(state)))
    return zstandard.compress(msgspec.json.encode(body), 1)


def restore(run: Run, body: bytes) -> None:
    """Put a saved state into a fresh run of the same settings.

    Raises SnapshotError for bytes that are damaged or of another format; then ``run`` is unusable.
    """
    try:
        text = zstandard.decompress(body, _MAX_BYTES)
        found = msgspec.json.decode(text, type=_Body)
        if found.format != FORMAT:
            raise SnapshotError(f"of format {found.format}, not {FORMAT}")
        state = msgspec.json.decode(found.run, type=SavedRun)
    except (zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise SnapshotError(f"damaged: {error}") from error
    for name in _PLAIN:
        setattr(run, name, getattr(state, name))
    run.counts = Counter(state.counts)
    run.untrained, run.was_live = set(state.untrained), set(state.was_live)
    codec_state.restore(run.codec, state.codec)
    engine_state.restore(run.engine, state.engine)
    run.scoring.state = state.scoring
