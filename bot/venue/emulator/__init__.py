"""A local Bybit v5 venue on loopback: a seeded synthetic market, or a capture played again."""

from bot.venue.emulator.listing import DEFAULT_SYMBOLS, VenueError
from bot.venue.emulator.server import DEMO, Venue, serve

__all__ = ["DEFAULT_SYMBOLS", "DEMO", "Venue", "VenueError", "serve"]
