"""docs/configuration.md is what the settings say."""

from __future__ import annotations

from bot import config_reference
from bot.config import ALL_KEYS
from tests.processes import ROOT


def test_the_page_is_made_from_the_settings():
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == config_reference.page(), "run: bot config reference > docs/configuration.md"


def test_every_setting_has_its_line_with_what_it_takes_and_what_it_is_for():
    keys = list(config_reference.every_key())
    sections = {key.rpartition(".")[0] for key in ALL_KEYS}
    assert {each.key for each in keys} == set(ALL_KEYS) - {
        key for key in sections if key in ALL_KEYS
    }
    assert not [each for each in keys if not (each.allowed and each.comment and each.default)]


def test_bounds_choices_and_defaults_are_told():
    found = {each.key: each for each in config_reference.every_key()}
    assert found["feed.warmup_candles"].allowed == "a whole number from 0 to 1000"
    assert found["log.level"].allowed == "`debug`, `info`, `warning`, `error`"
    assert found["exchange.fees.spot.taker_rate"].default == "0.001"
    assert "never here" in found["mqtt.password"].comment
