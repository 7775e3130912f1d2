"""A word to systemd: ready, alive, stopping. Nothing where no service manager listens.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import asyncio
import os
import socket


def tell(state: str) -> None:
    """Send a state (``READY=1``) to the service manager that started us, if one did."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    path = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(1)
        try:
            sender.sendto(state.encode(), path)
        except OSError:
            return  # it is gone; what it would have done with us is its business


async def keep_alive() -> None:
    """Tell the watchdog that the loop turns, twice as often as it asks; until cancelled."""
    wanted_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    if not wanted_us:
        return
    while True:
        tell("WATCHDOG=1")
        await asyncio.sleep(wanted_us / 2e6)
