"""A word to systemd."""

from __future__ import annotations

import asyncio
import socket

import pytest

from bot.operate import service


@pytest.fixture
def manager(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def test_the_service_manager_hears_what_is_told(manager):
    service.tell("READY=1")
    assert manager.recv(100) == b"READY=1"


async def test_the_watchdog_is_told_twice_as_often_as_it_asks(manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    task = asyncio.create_task(service.keep_alive())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3


async def test_nobody_who_listens_is_no_error(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    service.tell("READY=1")
    await service.keep_alive()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    service.tell("READY=1")
