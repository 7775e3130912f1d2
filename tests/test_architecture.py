"""The house as the code has it: who may import whom, over the syntax trees."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import bot
from bot.config import Settings, default_config_path
from tests.processes import ROOT

ROOMS = ("core", "kvcache", "model", "venue", "ledger", "operate", "research")
MAY = {
    "core": set(),
    "kvcache": set(),
    "model": {"core", "kvcache"},
    "venue": {"core"},
    "ledger": {"core"},
    "operate": {"core", "ledger"},
    "research": {"core", "model", "venue", "ledger"},
}
"""Beside itself. Only queries of the ledger may be read by operate."""
RIM = {"app", "cli", "cli_bench", "cli_config", "cli_data", "cli_evaluate", "cli_inspect",
       "cli_models", "cli_mqtt", "cli_options", "cli_record", "cli_research", "cli_train",
       "lookahead", "show", "serve_dashboard", "serve_venue", "top"}  # fmt: skip
"""What a person starts; nothing below imports it."""
NOT_IN_CORE = {"time", "random", "asyncio", "threading", "secrets", "socket", "datetime"}
HEAVY = {"torch", "pybit", "picows", "sqlalchemy", "aiohttp", "alembic"}


def files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text()) for path in files("bot", "strategies")}
SOURCES = {name_of(path): path for path in files("bot", "strategies")}


def imports(tree: ast.AST) -> set[str]:
    """Every module that a tree imports, ours by its full name."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name for name in inner if name in MODULES} or {module}
    return found


IMPORTS = {name: imports(tree) for name, tree in MODULES.items()}


def room_of(module: str) -> str:
    """``core`` of ``bot.core.book``; "" for a file at the top of the house."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "bot" and parts[1] in ROOMS else ""


def ours(module: str) -> set[str]:
    return {name for name in IMPORTS[module] if name.split(".")[0] in ("bot", "strategies")}


def test_the_house_has_the_files_that_these_tests_look_at():
    assert len(MODULES) > 80
    assert {room_of(module) for module in MODULES} == {"", *ROOMS}


def test_operate_only_reads_the_ledger():
    reading = {f"bot.ledger.{name}" for name in ("queries", "series", "reading", "database")}
    for module in MODULES:
        if room_of(module) == "operate":
            assert {name for name in ours(module) if room_of(name) == "ledger"} <= reading, module


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "research"])
def test_a_room_imports_core_and_itself_and_what_its_arrow_says(room):
    for module in MODULES:
        if room_of(module) == room:
            others = {name for name in ours(module) if room_of(name) != room}
            assert {room_of(name) for name in others} <= MAY[room], (module, others)


def test_research_uses_rooms_the_path_and_strategies_but_nothing_that_starts_a_run():
    for module in MODULES:
        if room_of(module) == "research":
            top = {name for name in ours(module) if not room_of(name)}
            assert top <= {
                "bot",
                "bot.garbage",
                "bot.inbox",
                "bot.run",
                "strategies.market_maker",
            }, module


def test_nothing_below_imports_what_a_person_starts():
    rim = {f"bot.{name}" for name in RIM}
    for module in MODULES:
        if module not in rim | {"bot.__main__"}:
            assert not ours(module) & rim, module
    assert not [module for module in MODULES if "bot.cli" in ours(module)
                and module != "bot.__main__"]  # fmt: skip


def test_core_is_the_standard_library_and_msgspec_and_knows_no_clock_and_no_chance():
    for module in MODULES:
        if room_of(module) == "core":
            others = {name.split(".")[0] for name in IMPORTS[module]} - {"bot", "msgspec"}
            assert others <= sys.stdlib_module_names, module
            assert not others & NOT_IN_CORE, module


def test_kvcache_knows_nothing_of_markets():
    for module in MODULES:
        if room_of(module) == "kvcache":
            assert all(name.startswith("bot.kvcache") for name in ours(module)), module


def test_a_strategy_imports_core_only():
    for module in MODULES:
        if module.startswith("strategies"):
            assert {room_of(name) for name in ours(module)} <= {"core"}, module


def test_no_imports_go_round():
    edges = {module: {name for name in ours(module) if name in MODULES} for module in MODULES}
    state: dict[str, str] = defaultdict(str)

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert state[module] != "open", " -> ".join((*path, module))
        if state[module] == "done":
            return
        state[module] = "open"
        for name in edges[module] - {module}:
            visit(name, (*path, module))
        state[module] = "done"

    for module in edges:
        visit(module, ())


def test_an_import_within_a_function_is_marked_with_its_reason_or_a_verbs():
    for module, tree in MODULES.items():
        lines = SOURCES[module].read_text().splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Import | ast.ImportFrom):
                        is_verb = re.fullmatch(r"bot\.cli(_\w+)?", module)
                        assert is_verb or "noqa: PLC0415" in lines[inner.lineno - 1], module


def test_a_verbs_module_loads_nothing_heavy():
    for module in (*(f"bot.{name}" for name in RIM if name.startswith("cli")), "bot.show"):
        tops = {name.split(".")[0] for node in MODULES[module].body for name in imports(node)
                if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
        assert not tops & HEAVY, module


def test_torch_stays_in_the_rooms_that_need_it():
    users = {room_of(module) or module for module in MODULES
             if any(name.split(".")[0] == "torch" for name in IMPORTS[module])
             and not module.startswith("bot.research.bench.")}  # fmt: skip
    assert users <= {"kvcache", "model", "bot.recompute", "bot.inference", "bot.judge"}


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_what_it_is(module):
    tree = MODULES[module]
    if tree.body:
        assert ast.get_docstring(tree), f"{module} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_are_read_in_one_sitting(module):
    lines = SOURCES[module].read_text().splitlines()
    assert len(lines) <= 420, module
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{module}.{node.name}"


def test_no_module_has_a_name_that_says_nothing():
    for module in MODULES:
        assert not re.search(r"util|helper|common|misc|manager$", module.replace(
            "bot.kvcache.manager", "")), module  # fmt: skip


def test_the_changelogs_newest_version_is_the_programs():
    changelog = ROOT / "CHANGELOG.md"
    if not changelog.is_file():
        pytest.skip("no CHANGELOG.md")
    version = re.search(r"^## \[?(\d+\.\d+\.\d+)", changelog.read_text(), re.MULTILINE)
    assert version is not None
    assert version[1] == bot.__version__


# --- config.yaml ----------------------------------------------------------------------------------


def leaves(value: object, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not isinstance(value, dict) or not value:
        return {path}
    return {leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))}


def test_the_shipped_config_has_every_setting_with_its_default(monkeypatch):
    shipped = yaml.safe_load(default_config_path().read_text())
    defaults = Settings()
    assert Settings(**shipped) == defaults
    assert leaves(shipped) == leaves(defaults.model_dump(mode="json"))


def test_every_line_of_the_shipped_config_that_sets_something_has_its_comment():
    lines = default_config_path().read_text().splitlines()
    bare = [line for line in lines if re.match(r"\s+[a-z_]+: [^{]+$", line) and "#" not in line]
    # The same words as a few lines above need no second explanation, nor do a strategy's own.
    assert {line.split(":")[0].strip() for line in bare} <= {
        "enabled", "checkpoint", "seed", "window", "name", "symbols", "use",
        "max_order_notional", "max_orders_per_s", "max_open_orders", "threads", "budget_mb",
        "max_inventory",
    }  # fmt: skip
