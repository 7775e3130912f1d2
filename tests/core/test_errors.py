"""The one base of expected trouble."""

from __future__ import annotations

from bot.core.errors import PlainError


def test_its_text_is_all_that_a_person_needs() -> None:
    assert str(PlainError("config.yaml: no such file")) == "config.yaml: no such file"
