"""Which checkpoints there are, and which are in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.model import CheckpointError, save
from bot.model.registry import Registry
from tests.model.builders import book_checkpoint, candle_checkpoint


def registry(folder: Path) -> Registry:
    save(candle_checkpoint(), folder / "shipped" / "predictor.safetensors")
    save(book_checkpoint(), folder / "shipped" / "other.safetensors")
    return Registry(folder / "users", folder / "shipped")


def test_shipped_and_own_checkpoints_are_listed_and_an_own_one_wins(tmp_path: Path) -> None:
    found = registry(tmp_path)
    assert [(entry.id, entry.role, entry.shipped) for entry in found.entries()] == [
        ("other", "analyzer", True), ("predictor", "predictor", True),
    ]  # fmt: skip
    save(candle_checkpoint(window=20), tmp_path / "users" / "predictor.safetensors")
    assert [entry.shipped for entry in found.entries()] == [True, False]
    assert found.find("predictor").card.config.window == 20


def test_the_shipped_one_is_in_use_until_another_is_made_active(tmp_path: Path) -> None:
    found = registry(tmp_path)
    shipped = found.active("predictor")
    assert shipped is not None
    assert shipped.shipped
    assert found.active("analyzer") is None
    save(candle_checkpoint(window=20), tmp_path / "users" / "mine" / "predictor.safetensors")
    found.activate("mine/predictor")
    found.activate("other")
    for role, name in (("predictor", "mine/predictor"), ("analyzer", "other")):
        active = found.active(role)
        assert active is not None
        assert active.id == name


def test_what_is_missing_or_damaged_is_never_made_active(tmp_path: Path) -> None:
    found = registry(tmp_path)
    with pytest.raises(CheckpointError, match="no model 'none': known are other, predictor"):
        found.activate("none")
    (tmp_path / "shipped" / "other.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="weights cannot be read"):
        found.activate("other")
    assert found.active("analyzer") is None
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "active.json").write_text("{")
    with pytest.raises(CheckpointError, match="delete it to use what ships"):
        found.active("predictor")
