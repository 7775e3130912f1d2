"""kvtrader: event-driven paper trading on Bybit."""

__version__ = "0.1.0"
