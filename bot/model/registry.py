"""Which checkpoints there are, and which of each role is in use.

Checkpoints ship in the package's ``checkpoints`` folder; a user's lie under ``data/models``, where
``active.json`` names the one in use by role. A role is what a model reads: candles make a
``predictor``, books an ``analyzer``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from bot.model.checkpoint import Card, CheckpointError, load, read_card
from bot.model.tokens import BOOK_TOKENS, CANDLE_TOKENS

SHIPPED = Path(__file__).resolve().parent / "checkpoints"
USERS = Path("data/models")
ROLES = {CANDLE_TOKENS: "predictor", BOOK_TOKENS: "analyzer"}
IN_USE = Path("active")
_ACTIVE = "active.json"


class Entry(Struct, frozen=True):
    """One checkpoint. ``id`` is its path under its folder without the suffix."""

    id: str
    path: Path
    shipped: bool
    card: Card

    @property
    def role(self) -> str:
        """ "" for tokens that this version does not make."""
        return ROLES.get(self.card.tokens, "")


class Registry:
    """The shipped checkpoints and a user's own, which win where both have one id."""

    def __init__(self, users: Path = USERS, shipped: Path = SHIPPED) -> None:
        self._users, self._shipped = users, shipped

    def entries(self) -> list[Entry]:
        """Every checkpoint, by id. Raises CheckpointError for a card that cannot be read."""
        found = {entry.id: entry for entry in _entries(self._shipped, shipped=True)}
        found |= {entry.id: entry for entry in _entries(self._users, shipped=False)}
        return [found[name] for name in sorted(found)]

    def find(self, name: str) -> Entry:
        """The checkpoint of an id, or of a .safetensors file. Raises CheckpointError."""
        path = Path(name)
        if path.suffix == ".safetensors":
            card = read_card(path.with_suffix(".json"))
            return Entry(str(path), path, shipped=False, card=card)
        entries = self.entries()
        for entry in entries:
            if entry.id == name:
                return entry
        known = ", ".join(entry.id for entry in entries) or "none"
        raise CheckpointError(f"no model {name!r}: known are {known}, or give a .safetensors file")

    def active(self, role: str) -> Entry | None:
        """The model in use: the one made active, else the shipped one named like its role.

        Raises CheckpointError where the active one is gone.
        """
        chosen = self._chosen().get(role)
        if chosen is not None:
            return self.find(chosen)
        return next((e for e in _entries(self._shipped, shipped=True) if e.id == role), None)

    def path_of(self, role: str, name: Path) -> Path:
        """The file that a setting names: an id, a file, or ``active`` for the one in use.

        Raises CheckpointError for an id that there is not.
        """
        if name.suffix:
            return name
        entry = self.active(role) if name == IN_USE else None
        return (entry or self.find(str(name))).path

    def activate(self, name: str) -> Entry:
        """Make a checkpoint the one in use for its role, after loading it whole.

        Raises CheckpointError for one that is missing, damaged or reads unknown tokens.
        """
        entry = self.find(name)
        load(entry.path)
        if not entry.role:
            raise CheckpointError(
                f"model {name!r} reads {entry.card.tokens} tokens, this version makes "
                f"{' and '.join(ROLES)}: train it again"
            )
        chosen = self._chosen() | {entry.role: name}
        self._users.mkdir(parents=True, exist_ok=True)
        draft = self._users / f".{_ACTIVE}.{os.getpid()}"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(chosen), indent=2) + b"\n")
        draft.replace(self._users / _ACTIVE)
        return entry

    def _chosen(self) -> dict[str, str]:
        path = self._users / _ACTIVE
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise CheckpointError(
                f"{path}: cannot be read: {error}; delete it to use what ships"
            ) from error


def _entries(folder: Path, *, shipped: bool) -> Iterator[Entry]:
    for path in sorted(folder.rglob("*.safetensors")):
        if path.with_suffix(".json").is_file():
            card = read_card(path.with_suffix(".json"))
            name = path.relative_to(folder).with_suffix("").as_posix()
            yield Entry(name, path, shipped, card)
