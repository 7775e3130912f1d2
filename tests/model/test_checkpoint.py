"""Checkpoints: round trip, and refusal of everything that does not belong together."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from msgspec.structs import replace

from bot.model import CheckpointError, load, save
from bot.model.checkpoint import Checkpoint, weights_hash
from tests.model.builders import book_checkpoint, budget, candle_checkpoint, predictor, small_config


def rewrite_card(path: Path, **changes: object) -> None:
    card = path.with_suffix(".json")
    content = msgspec.json.decode(card.read_bytes())
    card.write_bytes(msgspec.json.encode({**content, **changes}))


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    saved = candle_checkpoint()
    card = replace(saved.card, trained=True, metrics={"loss": 0.25})
    path = tmp_path / "models" / "predictor.safetensors"
    save(Checkpoint(card, saved.model), path)
    loaded = load(path)
    assert loaded.card == card
    pairs = zip(saved.model.parameters(), loaded.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_a_seeded_model_says_that_it_is_untrained_and_repeats() -> None:
    first, second = candle_checkpoint(), candle_checkpoint()
    assert (first.card.trained, first.card.seed) == (False, 3)
    assert first.card == second.card
    assert first.card.weights_sha256 != book_checkpoint().card.weights_sha256


def test_the_hash_sees_a_single_bit() -> None:
    model = candle_checkpoint().model
    before = weights_hash(model)
    with torch.no_grad():
        model.head_bias[0] += 1e-7
    assert weights_hash(model) != before


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    save(candle_checkpoint(), one)
    same_shape = candle_checkpoint()
    with torch.no_grad():
        same_shape.model.embed.add_(1)
    card = replace(same_shape.card, weights_sha256=weights_hash(same_shape.model))
    save(Checkpoint(card, same_shape.model), other)
    other.with_suffix(".json").write_bytes(one.with_suffix(".json").read_bytes())
    with pytest.raises(CheckpointError, match=r"other.*weights hash .* is not the card's"):
        load(other)


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(candle_checkpoint(), path)
    rewrite_card(path, config=small_config(features=9))
    with pytest.raises(CheckpointError, match=r"embed is \(16, 23\), config needs \(16, 9\)"):
        load(path)


def test_damaged_or_missing_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"model\.json: the card cannot be read"):
        load(path)
    save(candle_checkpoint(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="weights cannot be read"):
        load(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="weights cannot be read"):
        load(path)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(CheckpointError, match="not a checkpoint card"):
        load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "card format 99, this version reads 1"),
        ({"surprise": 1}, "unknown field"),
        ({"trained": "yes"}, "not a checkpoint card"),
    ],
)
def test_a_card_that_is_not_understood_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "model.safetensors"
    save(candle_checkpoint(), path)
    rewrite_card(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_weights_changed_after_the_card_was_made_are_not_saved(tmp_path: Path) -> None:
    checkpoint = candle_checkpoint()
    with torch.no_grad():
        checkpoint.model.head.add_(1)
    with pytest.raises(CheckpointError, match="make the card after"):
        save(checkpoint, tmp_path / "model.safetensors")


def test_a_model_for_other_tokens_is_refused() -> None:
    wrong = book_checkpoint()
    with pytest.raises(CheckpointError, match=r"'analyzer' reads book-1 tokens of 92 features"):
        type(predictor())(wrong, budget(), "linear:BTCUSDT")
