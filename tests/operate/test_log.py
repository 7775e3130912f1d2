"""No secret reaches a log, whoever logs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bot.operate.log import Redaction
from tests.processes import environment

SECRET = 'hun"ter/2 2é'
SCRIPT = """
import logging, sys
import structlog
from bot.operate import log
secret = sys.argv[2]
log.configure(sys.argv[1], "debug", [secret])
told = structlog.get_logger()
told.info("here", url=f"mqtt://u:{secret}@host", password=secret, values=[secret])
logging.getLogger("library").error("cannot log in as %s", secret)
try:
    raise ValueError(secret)
except ValueError:
    told.exception("broken")
told.warning("postgresql://me:never-told@host/db")
raise RuntimeError(f"the end of {secret}")
"""


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_secret_is_in_no_line_and_no_traceback(style):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, style, SECRET], env=environment(), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "the end of ***" in result.stderr
    assert "cannot log in as ***" in result.stderr
    assert "postgresql://***@host/db" in result.stderr
    for form in (SECRET, "ter/2", "ter%2F2", "never-told"):
        assert form not in result.stderr


def test_short_secrets_are_left_for_a_log_would_be_nothing_but_stars():
    assert Redaction(["abc", ""])("abc") == "abc"
    assert Redaction(["abcd", "abcdef"])("abcdef abcd") == "*** ***"
