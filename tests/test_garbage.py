"""How garbage is looked for while a run is stepped."""

from __future__ import annotations

import gc

import pytest

from bot.garbage import rare_collections


def test_what_is_there_is_let_be_and_all_is_as_before_in_the_end():
    usual, frozen = gc.get_threshold(), gc.get_freeze_count()
    with rare_collections():
        assert gc.get_threshold()[0] > usual[0]
        assert gc.get_freeze_count() > frozen
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() == 0


def test_a_run_that_fails_leaves_all_as_before():
    usual = gc.get_threshold()
    with pytest.raises(ValueError, match="a fault"), rare_collections():
        raise ValueError("a fault")
    assert gc.get_threshold() == usual


def test_garbage_in_cycles_is_still_found():
    class Node:
        alive = 0

        def __init__(self) -> None:
            self.me = self
            Node.alive += 1

        def __del__(self) -> None:
            Node.alive -= 1

    with rare_collections():
        for _ in range(100_000):
            Node()
        assert Node.alive < 50_000
