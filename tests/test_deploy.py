"""The deployment files, as far as they can be checked without the machines they are for."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from bot.config import ALL_KEYS, load
from tests.processes import ROOT, bot

DEPLOY = ROOT / "docs" / "deploy"
EXPOSURE_MOST = 2.5
"""systemd's own measure of a unit, from 0 (closed) to 10; below 5 it calls a unit OK."""


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "kvtrader.service")
    return parser


def compose() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def is_verb(words: list[str], tmp_path) -> bool:
    result = bot(words[0], "--help", cwd=tmp_path)
    options = [word for word in words[1:] if word.startswith("--")]
    return result.returncode == 0 and all(option in result.stdout for option in options)


def test_the_unit_starts_a_verb_that_exists_with_options_that_it_has(tmp_path):
    program, *words = unit()["Service"]["ExecStart"].split()
    assert program.endswith("/bot")
    assert is_verb(words, tmp_path)


def test_the_unit_waits_for_what_the_bot_tells_it():
    service = unit()["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert service["WatchdogSec"]


def test_the_units_variables_are_settings(monkeypatch, tmp_path):
    name, _, value = unit()["Service"]["Environment"].partition("=")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    assert load().log.format == "json"


def test_the_unit_is_closed(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    result = subprocess.run(
        [program, "security", "--offline=yes", str(DEPLOY / "kvtrader.service")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for kvtrader\.service: ([\d.]+)", result.stdout)
    if found is None:
        pytest.skip(f"this systemd cannot judge a unit from its file: {result.stderr.strip()}")
    assert float(found[1]) <= EXPOSURE_MOST


def test_the_image_starts_the_bot_as_somebody_else_than_root(tmp_path):
    text = (DEPLOY / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["bot"]' in text
    command = re.search(r'^CMD \["(\w+)"\]', text, re.MULTILINE)
    assert command is not None
    assert is_verb([command[1]], tmp_path)
    stage = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER kvtrader$", stage, re.MULTILINE)


def test_the_services_have_what_they_name():
    found = compose()
    services = found["services"]
    assert set(services) == {"bot", "postgres", "mosquitto", "prometheus", "grafana"}
    for name, service in services.items():
        assert service.get("depends_on", {}).keys() <= services.keys()
        assert set(service.get("secrets", [])) <= found["secrets"].keys()
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith(".") and source != "./passwords":
                assert (DEPLOY / source).is_file(), source
            elif not source.startswith("."):
                assert source in found["volumes"], source
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
    build = services["bot"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_the_bots_variables_are_settings_and_no_secret_stands_in_the_file(monkeypatch, tmp_path):
    secrets = {"postgres": "pg-pass", "mqtt": "mqtt-pass"}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    for name, value in compose()["services"]["bot"]["environment"].items():
        assert name.removeprefix("BOT__").lower().replace("__", ".") in ALL_KEYS
        monkeypatch.setenv(name, value.replace("/run/secrets", str(tmp_path)))
    settings = load()
    assert settings.ledger.db == "postgresql://kvtrader:pg-pass@postgres/kvtrader"
    assert settings.mqtt.host in compose()["services"]
    assert settings.mqtt.port == int(
        re.search(r"^listener (\d+)", (DEPLOY / "mosquitto.conf").read_text())[1]
    )


def test_prometheus_asks_the_bot_where_it_answers():
    found = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    (target,) = found["scrape_configs"][0]["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert host in compose()["services"]
    assert int(port) == load().metrics.port


def test_grafana_has_its_data_source_and_the_dashboard_from_the_start():
    services = compose()["services"]
    inside = dict(
        reversed(volume.removesuffix(":ro").rsplit(":", 1))
        for volume in services["grafana"]["volumes"]
    )
    (source,) = provisioned(inside["/etc/grafana/provisioning/datasources/kvtrader.yaml"])[
        "datasources"
    ]
    assert source["type"] == "prometheus"
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert host in services
    assert port == "9090"  # Prometheus's own
    (provider,) = provisioned(inside["/etc/grafana/provisioning/dashboards/kvtrader.yaml"])[
        "providers"
    ]
    (shown,) = (path for path in inside if path.startswith(provider["options"]["path"] + "/"))
    assert (DEPLOY / inside[shown]).resolve() == ROOT / "docs" / "grafana.json"


def provisioned(path: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / path).read_text())
