"""The examples run as a newcomer would run them."""

import importlib.util
import runpy
import sys
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


@pytest.mark.parametrize("cases", [3, pytest.param(6, marks=pytest.mark.nightly)])
def test_the_comparison_returns_a_line_a_case_and_a_picture(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cases: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = EXAMPLES / "03_strategy_comparison.py"
    spec = importlib.util.spec_from_file_location("comparison", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "comparison", example)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "CASES", example.CASES[:cases])
    monkeypatch.setattr(example, "BARS", 100)
    monkeypatch.setattr(sys, "argv", [str(path)])
    example.main()
    _, *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["hold", "trend", *["model"] * (cases - 2)]
    assert all("us" in line and line.endswith("kB") for line in lines[2:])
    assert last.startswith("drawn to strategy_comparison.svg")
    picture = (tmp_path / "strategy_comparison.svg").read_text()
    assert picture.count('class="line"') == cases
    assert 'xmlns="http://www.w3.org/2000/svg"' in picture
