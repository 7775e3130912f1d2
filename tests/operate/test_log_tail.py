"""The log's last lines."""

from __future__ import annotations

from bot.operate.log_tail import KEPT, MAX_CHARS, LogTail


def test_lines_are_numbered_have_their_level_and_no_colours():
    tail = LogTail()
    tail.add("2026-11-24 [\x1b[32m\x1b[1minfo     \x1b[0m] paper run\n")
    tail.add('{"level": "error", "event": "x"}\nplain\n\n')
    assert [(line.number, line.level) for line in tail.lines()] == [
        (1, "info"), (2, "error"), (3, "warning"),
    ]  # fmt: skip
    assert tail.lines()[0].text == "2026-11-24 [info     ] paper run"
    assert [line.text for line in tail.lines(after=2)] == ["plain"]


def test_it_grows_neither_long_nor_wide():
    tail = LogTail()
    for number in range(3 * KEPT):
        tail.add(f"{number}" + "x" * 5_000)
    assert len(tail.lines()) == KEPT
    assert max(len(line.text) for line in tail.lines()) == MAX_CHARS
    assert tail.lines()[-1].number == 3 * KEPT
