"""Trees that start from the imbalance find what it leaves out, and know no side of the market."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot.model.dataset import future_returns
from bot.model.scores import rank_correlation
from bot.research.teaching.book_inputs import BookInputs, book_inputs
from bot.research.teaching.book_trees import BookTrees, book_odds, fit_book_trees
from tests.research.teaching.books import book

HORIZONS = (100, 1_000)
BOOK = book(6_000)
EARLY = np.arange(len(BOOK)) % 3_000 < 2_000
INPUTS = book_inputs(BOOK)


@pytest.fixture(scope="module")
def trees() -> BookTrees:
    return fit_book_trees(BOOK, INPUTS, HORIZONS, EARLY)


def test_they_rank_later_moves_better_than_the_imbalance_where_there_is_more(
    trees: BookTrees,
) -> None:
    moved = future_returns(BOOK, HORIZONS)[:, 0]
    later = ~EARLY & np.isfinite(moved)
    said = trees.odds(INPUTS)[later, 0, 0].astype(np.float64)
    better = rank_correlation(said, moved[later])
    assert better > rank_correlation(INPUTS.lean[later], moved[later]) + 0.02


def test_upside_down_they_say_the_opposite(trees: BookTrees) -> None:
    turned = BookInputs(INPUTS.mirrored, INPUTS.upright, -INPUTS.lean)
    assert np.allclose(trees.odds(turned), -trees.odds(INPUTS), atol=1e-5)


def test_what_they_say_is_kept_beside_their_text_and_is_the_same_again(tmp_path: Path) -> None:
    told = [np.load(book_odds(BOOK, HORIZONS, EARLY, tmp_path / name)) for name in "ab"]
    assert told[0].shape == (len(BOOK), 2, 2)
    assert np.array_equal(told[0], told[1])
    assert (tmp_path / "a" / "book0.lgb.txt").read_text().startswith("tree")
