"""A paper run end to end, over real sockets and real processes."""

from __future__ import annotations

import json


def test_a_run_through_every_fault_ends_cleanly_by_ctrl_c(recorded):
    print(json.dumps(recorded.summary), recorded.errors, recorded.faults)
    assert recorded.summary["clean"]
    assert 0
