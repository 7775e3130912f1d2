"""The settings of what goes on beside the trading: MQTT, alerts, jobs, dashboard, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

WHEN = r"^(never|every [0-9.]+[smhd]|\S+( \S+){4})$"
"""When a job runs: not at all, every so often, or by a cron line in UTC."""


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Mqtt(Section):
    enabled: bool = False
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(1883, ge=1, le=65535)
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    commands: bool = False
    queue: int = Field(1_000, ge=10, le=100_000)
    prediction_every_s: float = Field(1.0, ge=0)
    status_every_s: float = Field(30.0, ge=1)
    end_s: float = Field(5.0, ge=0, le=600)


class Notify(Section):
    urls: tuple[SecretStr, ...] = ()
    urls_file: Path | None = None
    least: Literal["info", "warning", "critical"] = "warning"
    every_s: float = Field(300.0, ge=1)
    gap_storm: int = Field(10, ge=2)
    clock_drift_ms: float = Field(500.0, gt=0)
    least_free_mb: int = Field(1_024, ge=0)


class Job(Section):
    when: str = Field("never", pattern=WHEN)


class JournalJob(Job):
    keep_days: int = Field(0, ge=0)


class BackupJob(Job):
    folder: Path = Path("data/backups")
    keep: int = Field(7, ge=1)


class ReportJob(Job):
    folder: Path = Path("data/reports")
    keep: int = Field(90, ge=1)


class EvaluationJob(Job):
    days: int = Field(7, ge=1)


class RetrainingJob(Job):
    days: int = Field(14, ge=6)
    recipe: str = Field("small", min_length=1)
    steps: int | None = Field(None, ge=1)
    data: tuple[Path, ...] = ()
    keep: int = Field(7, ge=1)


class Schedule(Section):
    late_s: int = Field(300, ge=1)
    heartbeat: Job = Job(when="every 60s")
    disk: Job = Job(when="every 60s")
    instruments: Job = Job(when="7 */4 * * *")
    journal: JournalJob = JournalJob(when="0 0 * * *")
    backup: BackupJob = BackupJob(when="30 3 * * *")
    report: ReportJob = ReportJob(when="5 0 * * *")
    evaluation: EvaluationJob = EvaluationJob()
    retraining: RetrainingJob = RetrainingJob()


class Dashboard(Section):
    enabled: bool = True
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(0, ge=0, le=65535)
    token: SecretStr | None = None
    token_file: Path | None = None
    names: tuple[str, ...] = ()


class Metrics(Section):
    enabled: bool = False
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(9464, ge=0, le=65535)
