"""docs/configuration.md, made from the settings and the comments of the shipped config.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from bot.config import SECRET_KEYS, Settings, default_config_path
from bot.config_operate import WHEN

_LINE = re.compile(r"(?P<indent> *)(?P<key>[a-z_]+):(?P<value>[^#]*)(# (?P<comment>.*))?")
_HEAD = """\
# Configuration

Every key of `config.yaml`, what it takes, and its default. This page is made by
`bot config reference` from the settings themselves; `bot init` writes the same as a commented file.

- An environment variable wins over the file: `BOT__` and the key in capitals, with `__` for each
  dot. `BOT__FEED__DEPTH=200` sets `feed.depth`. Lists and whole sections are JSON.
- An unknown key or variable is an error, and the closest valid one is named.
- `bot config check` tells what is wrong, `bot config show` which value holds and where it is from.
- **Secrets** are not read from `config.yaml`: {secrets}. Set the variable, or name a file
  (a Docker secret, a systemd credential) in the key that ends in `_file`. `ledger.db` may hold a
  password. None of them is ever shown, logged or stored; `bot config show` prints `***`.
"""


class Key(Struct, frozen=True):
    """One setting: its dotted key, what it takes, its default and what it is for."""

    key: str
    allowed: str
    default: str
    comment: str


def every_key() -> Iterator[Key]:
    """Every setting, in the order of the file."""
    schema = Settings.model_json_schema()
    comments = _comments(default_config_path().read_text(encoding="utf-8"))
    defaults = Settings.model_construct().model_dump(mode="json")
    for key, part in _leaves(schema, schema["$defs"]):
        default: Any = defaults
        for name in key.split("."):
            default = default[name]
        shown = "see the file" if key == "strategies" else _shown(default)
        yield Key(key, _allowed(part, schema["$defs"]), shown, _comment(comments, key))


def page() -> str:
    """The whole page, as Markdown."""
    secrets = ", ".join(f"`{key}`" for key in SECRET_KEYS)
    tables: dict[str, list[Key]] = {"the bot": []}
    for each in every_key():
        section, dot, _ = each.key.partition(".")
        tables.setdefault(section if dot else "the bot", []).append(each)
    return _HEAD.format(secrets=secrets) + "".join(_table(*table) for table in tables.items())


def _table(section: str, rows: list[Key]) -> str:
    lines = [f"\n## {section}\n", "| key | default | allowed | |", "|---|---|---|---|"]
    for each in rows:
        cells = (f"`{each.key}`", f"`{each.default}`", each.allowed, each.comment)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _leaves(
    part: dict[str, Any], defs: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in part["properties"].items():
        found = _resolved(inner, defs)
        if "properties" in found:
            yield from _leaves(found, defs, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", found


def _resolved(part: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    name = part.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = defs[name] if name else part
    return found


def _allowed(part: dict[str, Any], defs: dict[str, Any]) -> str:
    """What a JSON schema lets pass, in words."""
    if "enum" in part:
        return ", ".join(f"`{_shown(value)}`" for value in part["enum"])
    if "anyOf" in part:
        kinds = [each for each in part["anyOf"] if each.get("type") != "null"]
        numbers = [each for each in kinds if each.get("type") in ("number", "integer")]
        words = [_allowed(each, defs) for each in numbers or kinds]
        return " or ".join([*words, *(["`null`"] if len(kinds) < len(part["anyOf"]) else [])])
    match part.get("type"):
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number" as kind:
            return " ".join(["a whole number" if kind == "integer" else "a number", *_bounds(part)])
        case "array":
            inner = _resolved(part["items"], defs)
            return "a list" if "properties" in inner else f"a list of: {_allowed(inner, defs)}"
    if part.get("format") == "path":
        return "a path"
    if part.get("format") == "password":
        return "a secret"
    if part.get("pattern") == WHEN:
        return "`never`, `every 60s` (s, m, h, d), or a cron line"
    return f"text that matches `{part['pattern']}`" if "pattern" in part else "text"


def _bounds(part: dict[str, Any]) -> Iterator[str]:
    words = (
        ("minimum", "from"),
        ("exclusiveMinimum", "above"),
        ("maximum", "to"),
        ("exclusiveMaximum", "below"),
    )
    for name, word in words:
        if name in part:
            bound = part[name]
            yield f"{word} {bound:g}" if abs(bound) < 10**13 else f"{word} {bound}"


def _shown(default: Any) -> str:
    if isinstance(default, list):
        return "[" + ", ".join(str(item) for item in default) + "]"
    if isinstance(default, bool) or default is None:
        return {True: "true", False: "false", None: "null"}[default]
    return str(default) if default != "" else '""'


def _comment(comments: dict[str, str], key: str) -> str:
    """A key's own comment, behind that of the part of the section that it stands in."""
    section = key.rpartition(".")[0]
    own, above = comments.get(key, ""), comments.get(section, "")
    if own and above and "." in section:
        return f"{above}: {own}"
    while not (own or above) and section:
        section = section.rpartition(".")[0]
        above = comments.get(section, "")
    return own or above


def _comments(text: str) -> dict[str, str]:
    """Dotted key to the comment on its line."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while path and path[-1][0] >= indent:
            path.pop()
        path.append((indent, match["key"]))
        found[".".join(name for _, name in path)] = (match["comment"] or "").strip()
    return found
