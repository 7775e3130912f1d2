"""The examples run as a newcomer would run them."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_basics_show_exact_caches_and_a_warm_restart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_path(str(EXAMPLES / "01_kv_cache_basics.py"), run_name="__main__")
    shown = capsys.readouterr().out
    lines = {
        line.split("  ")[1].strip(): line for line in shown.splitlines() if "KVCache (" in line
    }
    assert len(lines) == 7
    assert float(lines["KVCache (contiguous, float32)"].split()[-1]) < 1e-5
    assert "the next answer is the same to the bit: True" in shown
    assert "takes over 96 of its 100 tokens" in shown


@pytest.mark.nightly
def test_the_benchmark_shows_a_speedup_at_every_context(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_path(str(EXAMPLES / "02_inference_benchmark.py"), run_name="__main__")
    assert capsys.readouterr().out.count("x ") == 4
