"""The dashboard: a page in the browser that shows a run, live or ended, and takes commands."""

from bot.operate.dashboard.books import Books
from bot.operate.dashboard.site import Live, application

__all__ = ["Books", "Live", "application"]
