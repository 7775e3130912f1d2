"""Replays of a recorded run: the same decisions, from a fresh process, without torch."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from msgspec.structs import astuple

from bot import build
from bot.core.events import Fact, Prediction
from bot.ledger.digest import line_of
from bot.ledger.journal import JournalError, NewerJournal
from bot.replay import ReplayError, open_recording
from bot.run import Memory, Run
from bot.scoring import Scored
from bot.venue.archive import CaptureError
from tests.processes import bot, one_line, told

LIGHT = ("torch", "pybit", "picows")
KEYS = {"events", "frames", "gaps", "orders", "fills", "realized_pnl", "fees", "funding", "equity",
        "digest", "wall_s", "frames_per_s"}  # fmt: skip
SAME = ("run", "inputs", "frames", "skipped", "events", "gaps", "predictions", "orders", "fills",
        "realized_pnl", "fees", "funding", "equity", "facts", "digest", "scores")  # fmt: skip


class Kept(Memory):
    """A sink that keeps every fact's line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = []
        self.scores: list[tuple[int, Scored]] = []

    def add(self, position: int, event: object, facts: list[Fact]) -> None:
        super().add(position, event, facts)
        self.lines += map(line_of, facts)

    def add_scores(self, position: int, scored: Sequence[Scored]) -> None:
        self.scores += [(position, one) for one in scored]


def facts_of(path: Path) -> tuple[list[bytes], str]:
    """What stepping through a journal decides, and what was torn off."""
    recording = open_recording(path)
    kept = Kept()
    run = Run(build.engine(recording.settings), kept)
    for item in recording.inputs:
        run.take(item)
    return kept.lines, recording.torn


# --- the recorded run ---------------------------------------------------------------------------


def test_a_recorded_run_replays_to_its_digest_in_a_process_without_torch(recorded):
    result = told(bot("replay", recorded.summary["journal"], "--verify", "--json",
                      cwd=recorded.folder, without=LIGHT, PYTHONHASHSEED="1"))  # fmt: skip
    assert result.keys() >= KEYS
    assert result["verified"]
    assert {key: result[key] for key in SAME} == {key: recorded.summary[key] for key in SAME}
    assert result["predictions"] > 100
    assert result["fills"] >= 30
    assert sum(row["n"] for row in result["scores"] if row["model"] == "analyzer") > 100
    assert "torn" not in result


def test_the_ledger_has_every_score_that_the_replay_makes(recorded):
    recording = open_recording(recorded.journal)
    kept = Kept()
    run = Run(build.engine(recording.settings), kept)
    for item in recording.inputs:
        run.take(item)
    run_id = recorded.summary["run"]
    with closing(sqlite3.connect(recorded.folder / "data/kvtrader.db")) as ledger:
        columns = ", ".join(("position", *Scored.__struct_fields__))
        rows = ledger.execute(
            f"SELECT {columns} FROM predictions_scored WHERE run_id = ?", (run_id,)
        ).fetchall()
    made = [(position, *astuple(one)) for position, one in kept.scores]
    assert len(made) > 100
    assert sorted(rows) == sorted(made)


def test_a_segment_file_replays_like_its_folder(recorded):
    (segment,) = sorted(recorded.journal.iterdir())
    result = told(bot("replay", segment, "--json", cwd=recorded.folder, without=LIGHT))
    assert result["digest"] == recorded.summary["digest"]


def test_the_environment_changes_nothing_in_a_recorded_runs_settings(recorded):
    result = told(bot("replay", recorded.summary["journal"], "--verify", "--json",
                      cwd=recorded.folder, BOT__RISK__MAX_ORDER_NOTIONAL="1"))  # fmt: skip
    assert result["verified"]


def test_a_config_that_is_named_is_used_instead_of_the_recorded_one(recorded):
    other = recorded.folder / "other.yaml"
    other.write_text("strategies: []\n")
    result = told(bot("replay", recorded.summary["journal"], "--config", other, "--json",
                      cwd=recorded.folder))  # fmt: skip
    assert (result["orders"], result["frames"]) == (0, recorded.summary["frames"])


def test_other_predictions_decide_otherwise_and_verify_names_the_first_difference(recorded):
    line = one_line(bot("replay", recorded.summary["journal"], "--predictions", "none", "--verify",
                        cwd=recorded.folder, without=LIGHT))  # fmt: skip
    assert f"run {recorded.summary['run']}: fact " in line


def test_predictions_made_again_stay_within_the_cards_tolerance(recorded):
    result = told(bot("replay", recorded.summary["journal"], "--predictions", "recompute",
                      "--verify", "--json", cwd=recorded.folder))  # fmt: skip
    assert result["verified"]
    assert result["recomputed"] + result["not_recomputed"] == result["predictions"]
    assert result["recomputed"] > 100
    assert set(result["deviation"]) == {"predictor", "analyzer"}
    for model in result["deviation"].values():
        assert model["ok"]
        assert 0 <= model["worst"] <= model["tolerance"] < 0.1


def test_a_run_that_the_ledger_does_not_have_cannot_be_verified(recorded, tmp_path):
    other = tmp_path / "other.db"
    told_ = bot("db", "upgrade", "--db", f"sqlite:///{other}", cwd=tmp_path)
    assert told_.returncode == 0
    line = one_line(bot("replay", recorded.journal, "--verify", "--db", f"sqlite:///{other}",
                        cwd=tmp_path))  # fmt: skip
    assert recorded.summary["run"] in line


# --- a torn journal -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(recorded) -> list[bytes]:
    lines, torn = facts_of(recorded.journal)
    assert not torn
    return lines


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.2])
def test_cutting_a_journals_end_off_loses_only_its_tail(recorded, whole, tmp_path, share):
    copy = tmp_path / recorded.summary["run"]
    shutil.copytree(recorded.journal, copy)
    (segment,) = copy.iterdir()
    data = segment.read_bytes()
    segment.write_bytes(data[: min(int(len(data) * share), len(data) - 1)])
    lines, torn = facts_of(copy)
    assert "cut short" in torn
    assert lines == whole[: len(lines)]
    assert len(lines) < len(whole)


def test_a_torn_journal_replays_with_a_word_about_its_end(recorded, tmp_path):
    copy = tmp_path / recorded.summary["run"]
    shutil.copytree(recorded.journal, copy)
    (segment,) = copy.iterdir()
    segment.write_bytes(segment.read_bytes()[:-1])
    result = told(bot("replay", copy, "--json", cwd=tmp_path, without=LIGHT))
    assert "cut short" in result["torn"]
    line = one_line(bot("replay", copy, "--verify", "--db",
                        f"sqlite:///{recorded.folder}/data/kvtrader.db", cwd=tmp_path))  # fmt: skip
    assert f"the ledger has {recorded.summary['facts']} facts" in line
    assert "is only in the ledger" in line


# --- what is no recording -----------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


NEWER = {"t": "header", "format": "kvtrader-journal", "version": 99, "run": "x",
         "first_position": 0, "config": {}}  # fmt: skip


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", ReplayError, "neither a raw capture nor a journal"),
        (b"hello\n", ReplayError, "neither a raw capture nor a journal"),
        (zstd(b"hello\n"), ReplayError, "neither a raw capture nor a journal"),
        (b"\x28\xb5\x2f\xfd broken", ReplayError, "neither a raw capture nor a journal"),
        (zstd(json.dumps(NEWER).encode() + b"\n"), NewerJournal, "version 99, newer than"),
        (b'{"t":"recv","ts":1,"conn":"a","data":"x"}\n', CaptureError, "did not connect"),
    ],
)
def test_a_file_that_is_no_recording_is_one_clear_line(tmp_path, data, error, says):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(error, match=says):
        open_recording(path)


def test_a_folder_without_a_journal_is_no_recording(tmp_path):
    with pytest.raises((ReplayError, JournalError), match="holds no journal segment"):
        open_recording(tmp_path)


def test_the_command_line_says_so_too(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    line = one_line(bot("replay", "notes.txt", cwd=tmp_path, without=LIGHT))
    assert line.startswith("error: notes.txt: neither a raw capture nor a journal (")


def test_a_path_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(ReplayError, match="nowhere: no such file or folder"):
        open_recording(tmp_path / "nowhere")


# --- captures -----------------------------------------------------------------------------------


def capture(path: Path, *, category: str = "spot", cut: bool = False) -> Path:
    asks = [["1.60", "3"]] if category == "linear" else []
    data = {"s": "BTCUSDT", "b": [["1.50", "2"]], "a": asks, "u": 7, "seq": 9}
    topic = "orderbook.1.BTCUSDT"
    snapshot = {"topic": topic, "type": "snapshot", "ts": 5, "cts": 4, "data": data}
    lines = [
        {"t": "connect", "conn": "a", "ts": 1, "addr": f"wss://x/v5/public/{category}"},
        {"t": "recv", "conn": "a", "ts": 2, "data": json.dumps(snapshot)},
        {"t": "recv", "conn": "a", "ts": 3, "data": '{"op":"pong"}'},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text[:-20] if cut else text)
    return path


def test_a_capture_replays_without_predictions_and_with_its_best_prices(tmp_path):
    path = capture(tmp_path / "c.jsonl")
    result = told(bot("replay", path, "--bbo", "best.csv", "--json", cwd=tmp_path, without=LIGHT))
    assert (result["frames"], result["gaps"], result["run"]) == (2, 0, None)
    assert (tmp_path / "best.csv").read_text() == (
        "symbol,category,ts_exchange_ms,u,best_bid,bid_size,best_ask,ask_size\n"
        "BTCUSDT,spot,4,7,1.5,2,,\n"
    )


def test_a_capture_whose_end_is_missing_says_so(tmp_path):
    result = bot("replay", capture(tmp_path / "c.jsonl", cut=True), "--json", cwd=tmp_path)
    assert told(result)["torn"] == "a line is cut off after line 2"


def test_a_capture_that_does_not_tell_a_traded_symbols_rules_is_one_clear_line(tmp_path):
    path = capture(tmp_path / "c.jsonl", category="linear")
    line = one_line(bot("replay", path, cwd=tmp_path, without=LIGHT))
    assert "no instrument rules are known for linear:BTCUSDT" in line


def test_a_capture_has_no_run_to_verify_with(tmp_path):
    line = one_line(bot("replay", capture(tmp_path / "c.jsonl"), "--verify", cwd=tmp_path))
    assert "--verify needs a journal" in line


def test_best_prices_that_cannot_be_written_are_one_clear_line(tmp_path):
    path = capture(tmp_path / "c.jsonl")
    line = one_line(bot("replay", path, "--bbo", "no/where.csv", cwd=tmp_path))
    assert "no/where.csv: cannot be written: No such file or directory" in line


def test_the_recorded_predictions_are_inputs_like_any_other(recorded):
    kinds = [type(item) for item in open_recording(recorded.journal).inputs]
    assert kinds.count(Prediction) == recorded.summary["predictions"]
