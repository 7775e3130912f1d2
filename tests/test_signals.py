"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from bot.signals import ending


@pytest.fixture
def ignored():
    """The process was started to ignore Ctrl-C, as a shell's background job is."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("ignored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_is_told_even_where_ctrl_c_was_ignored(number):
    told = []
    with ending(told.append):
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.05)
    assert told == [number.name]


@pytest.mark.usefixtures("ignored")
async def test_a_second_ctrl_c_ends_at_once():
    told = []
    with ending(told.append):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.05)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert told == ["SIGINT"]
