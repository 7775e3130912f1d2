"""One file, one strategy, one class. A strategy imports bot.core only."""
