"""What is wrong with a configuration: the key, its value, what is allowed, what was meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any

from msgspec import Struct

from bot.core.errors import PlainError

HIDDEN = "(hidden)"


class Problem(Struct, frozen=True):
    """One thing that is wrong. ``closest`` is the valid key or value that was probably meant."""

    key: str
    says: str
    value: str = ""
    closest: str = ""

    def __str__(self) -> str:
        text = f"{self.key} = {self.value}: {self.says}" if self.value else self.says
        return f"{text}; did you mean {self.closest!r}?" if self.closest else text


class ConfigError(PlainError):
    """The configuration cannot be used; the text says which key, its value, what is allowed."""

    def __init__(self, source: str, problems: Iterable[Problem] = ()) -> None:
        """``source`` is the file and the variables that the values came from, or all there is."""
        self.problems = tuple(problems)
        super().__init__(": ".join(filter(None, (source, "; ".join(map(str, self.problems))))))


def problem(item: Any, keys: Collection[str], hidden: Collection[str]) -> Problem:
    """One of pydantic's errors. Values of ``hidden`` keys are not told."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return unknown_key(key, keys)
    value = HIDDEN if _is_hidden(key, hidden) else repr(item["input"])
    closest = ""
    if item["type"] == "literal_error":
        allowed = [word for word in item["ctx"]["expected"].split("'")[1::2] if word]
        closest = _closest(str(item["input"]), allowed, cutoff=0.5)
    return Problem(key, item["msg"], value, closest)


def unknown_key(key: str, keys: Collection[str]) -> Problem:
    """A key that no setting has."""
    section = key.rpartition(".")[0]
    siblings = [each for each in keys if each.rpartition(".")[0] == section]
    says = f"unknown key {key!r} (see `bot init` for a commented file with every key)"
    return Problem(key, says, closest=_closest(key, siblings) or _closest(key, keys))


def unknown_variable(name: str, known: Collection[str]) -> Problem:
    """A variable of ours that names no section."""
    parts = name.split("__")
    closest = _closest("__".join(parts[:2]), known)
    says = f"unknown variable {name}: known are {', '.join(known)}"
    return Problem(name, says, closest="__".join([closest, *parts[2:]]) if closest else "")


def secret_in_file(key: str) -> Problem:
    """A secret in a file that is shown, copied, and kept in a repository."""
    variable = f"BOT__{key.upper().replace('.', '__')}"
    says = f"a secret does not belong into this file: set {variable}, or name a file in {key}_file"
    return Problem(key, says, HIDDEN)


def one_line(error: Exception) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())


def _is_hidden(key: str, hidden: Collection[str]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in hidden if "." in each) or (
        key in hidden
    )


def _closest(word: str, among: Collection[str], cutoff: float = 0.7) -> str:
    found = get_close_matches(word, among, n=1, cutoff=cutoff)
    return found[0] if found else ""
