"""What trees read of a book: the past of its own segment alone, and its mirror image."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from bot.model.dataset import Dataset
from bot.model.scores import rank_correlation
from bot.model.tokens import mirror_of
from bot.research.teaching.book_inputs import book_inputs
from tests.research.teaching.books import book

BOOK = book(400)


def cut(data: Dataset, rows: int) -> Dataset:
    """The rows of the first segment before ``rows``."""
    columns = {name: getattr(data, name)[:rows] for name in ("tokens", "ts", "price", "volatility")}
    return replace(data, **columns, starts=np.array([0, rows]), series_of=data.series_of[:1])


def test_cutting_off_the_future_changes_no_row() -> None:
    whole, part = book_inputs(BOOK), book_inputs(cut(BOOK, 120))
    assert np.array_equal(whole.upright[:120], part.upright)
    assert np.array_equal(whole.mirrored[:120], part.mirrored)


def test_a_segment_knows_nothing_of_the_one_before() -> None:
    second = slice(*BOOK.starts[1:])
    alone = replace(
        cut(BOOK, 200),
        **{name: getattr(BOOK, name)[second] for name in ("tokens", "ts", "price", "volatility")},
    )
    assert np.array_equal(book_inputs(BOOK).upright[second], book_inputs(alone).upright)


def test_the_mirror_image_is_what_a_market_upside_down_would_show() -> None:
    places, signs = mirror_of(BOOK.token_kind)
    turned = replace(BOOK, tokens=BOOK.tokens[:, list(places)] * np.float32(signs))
    upright, over = book_inputs(BOOK), book_inputs(turned)
    assert np.array_equal(upright.mirrored, over.upright)
    assert np.allclose(upright.lean, -over.lean)


def test_the_lean_ranks_as_the_imbalance_does() -> None:
    imbalance = BOOK.tokens[:, 83].astype(np.float64)
    assert rank_correlation(book_inputs(BOOK).lean, imbalance) > 0.9999
