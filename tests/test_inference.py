"""Settings to models: what does not fit says which setting to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot import inference
from bot.config import ConfigError, Settings
from bot.model import CheckpointError, save


def test_models_without_a_checkpoint_come_from_their_seed_and_say_untrained():
    untrained = {"checkpoint": None}
    settings = Settings(models={"predictor": untrained, "analyzer": untrained})
    first, again = inference.checkpoints(settings), inference.checkpoints(settings)
    assert set(first) == {"predictor", "analyzer"}
    assert not any(model.card.trained for model in first.values())
    for name, model in first.items():
        assert model.card.weights_sha256 == again[name].card.weights_sha256


def test_a_model_that_is_off_is_not_made():
    settings = Settings(models={"predictor": {"enabled": False}})
    assert set(inference.checkpoints(settings)) == {"analyzer"}


def test_there_is_a_forecaster_per_symbol_and_model():
    settings = Settings(symbols=("linear:BTCUSDT", "spot:BTCUSDT"))
    made, caches = inference.forecasters(settings, inference.checkpoints(settings))
    assert set(made) == {(model, symbol) for model in ("predictor", "analyzer")
                         for symbol in settings.symbols}  # fmt: skip
    assert caches.metrics().sequences == 4


def test_a_budget_that_holds_no_window_names_the_setting():
    settings = Settings(
        models={"cache": {"budget_mb": 1}, "predictor": {"window": 100_000, "checkpoint": None}}
    )
    with pytest.raises(ConfigError, match=r"models\.cache\.budget_mb: sequence 'predictor/"):
        inference.forecasters(settings, inference.checkpoints(settings))


@pytest.mark.parametrize("kind", ["standard", "quantized+prefix", "selective"])
def test_every_kind_of_cache_can_be_configured(kind):
    settings = Settings(models={"cache": {"kind": kind}})
    made, caches = inference.forecasters(settings, inference.checkpoints(settings))
    assert caches.metrics().sequences == len(made) > 0


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        ({"kind": "standard+prefix"}, "standard is contiguous"),
        ({"kind": "paged", "retain": 64}, "has no retention"),
        ({"kind": "quantized", "kv_cache_dtype": "float32"}, "'float32', not one of"),
    ],
)
def test_cache_settings_that_do_not_go_together_name_the_section(cache, message):
    settings = Settings(models={"cache": cache})
    with pytest.raises(ConfigError, match=rf"models\.cache: .*{message}"):
        inference.forecasters(settings, inference.checkpoints(settings))


def test_a_checkpoint_that_cannot_be_read_names_the_setting(tmp_path):
    settings = Settings(models={"analyzer": {"checkpoint": tmp_path / "no.safetensors"}})
    with pytest.raises(CheckpointError, match=r"models\.analyzer\.checkpoint: "):
        inference.checkpoints(settings)


def test_a_checkpoint_is_named_as_bot_models_names_it():
    settings = Settings.model_validate(
        {"feed": {"interval": "15"},
         "models": {"predictor": {"checkpoint": "predictor"},
                    "analyzer": {"checkpoint": "active"}}})  # fmt: skip
    found = inference.checkpoints(settings)
    assert found["predictor"].card.interval == "15"
    assert all(each.card.trained for each in found.values())


def test_a_model_of_other_candles_is_refused_with_those_it_reads():
    settings = Settings.model_validate(
        {"feed": {"interval": "1"}, "models": {"predictor": {"checkpoint": "predictor"}}}
    )
    with pytest.raises(CheckpointError, match="candles of 5, 15 minutes, not of 1"):
        inference.checkpoints(settings)


def test_the_models_that_ship_are_the_default_and_the_analyzer_moves_no_quote():
    found = inference.checkpoints(Settings())
    assert all(each.card.trained for each in found.values())
    assert found["analyzer"].card.venue != "bybit"
    uses = [use for use in Settings().strategies if use.params["model"] == "analyzer"]
    assert [use.params["lean"] for use in uses] == [0.0]


def test_a_portfolio_has_a_forecaster_for_each_symbol_under_its_own_name():
    models = {"portfolio": {"enabled": True}, "analyzer": {"enabled": False}}
    settings = Settings(models=models)
    made, _ = inference.forecasters(settings, inference.checkpoints(settings))
    names = ("predictor", "portfolio")
    assert set(made) == {(name, symbol) for name in names for symbol in settings.symbols}


@pytest.mark.parametrize(
    ("portfolio", "message"),
    [
        ({"market": "linear:DOGEUSDT"}, "must be one of the portfolio's symbols"),
        ({"own_tokens": 90_000}, "must leave room in the window"),
        ({"horizon": 9}, r"models\.portfolio\.horizon 9: the model has 5"),
    ],
)
def test_a_portfolio_that_makes_no_sense_is_refused(portfolio, message):
    settings = Settings(models={"portfolio": {"enabled": True, **portfolio}})
    with pytest.raises(ConfigError, match=message):
        inference.forecasters(settings, inference.checkpoints(settings))


def test_a_backtest_says_that_it_predicts_no_portfolio():
    settings = Settings(models={"portfolio": {"enabled": True}})
    with pytest.raises(ConfigError, match="a backtest predicts no portfolio"):
        inference.chunked(settings, inference.checkpoints(settings), {})


def test_a_run_is_recomputed_by_the_weights_that_it_had_or_told_that_they_are_gone(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    settings = Settings(models={"analyzer": {"enabled": False}})
    seeded = {"checkpoint": None, "seed": 9}
    earlier = Settings(models={"analyzer": {"enabled": False}, "predictor": seeded})
    then, now = (inference.checkpoints(each)["predictor"] for each in (earlier, settings))
    hashes = {"predictor": then.card.weights_sha256}
    with pytest.raises(CheckpointError, match=f"{hashes['predictor'][:12]}.*data/models"):
        inference.recorded_checkpoints(settings, hashes)
    Path("data/models").mkdir(parents=True)
    save(then, Path("data/models/then.safetensors"))
    found = inference.recorded_checkpoints(settings, hashes)["predictor"]
    assert found.card.weights_sha256 == then.card.weights_sha256
    same = {"predictor": now.card.weights_sha256}
    found = inference.recorded_checkpoints(settings, same)["predictor"]
    assert found.card.weights_sha256 == now.card.weights_sha256
