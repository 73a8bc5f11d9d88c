"""Bytes on the ports, by hand."""

from dataclasses import replace

import numpy as np

from golden.config import PRESETS
from golden.job import Job, ScoreScale
from perf_model.cycles import JobShape
from perf_model.traffic import PORTS, job_bytes, port_bytes

DEFAULT = PRESETS["default"]
JOB = JobShape(rows=16, keys=100, head_dim=64, value_dim=64, survivors=30)


def test_bytes_of_a_job_by_hand():
    assert port_bytes(DEFAULT, JOB) == {
        "q": 16 * 64,
        "state": 0,
        "k": 100 * 64,
        "v_req": 30 * 4,
        "v": 30 * 64,
        "o": 16 * 64 * 2,
    }
    assert tuple(port_bytes(DEFAULT, JOB)) == PORTS


def test_rows_are_moved_in_whole_beats():
    bytes_ = port_bytes(DEFAULT, replace(JOB, head_dim=17, value_dim=5))
    assert bytes_["q"] == 16 * 32
    assert bytes_["k"] == 100 * 32
    assert bytes_["v"] == 30 * 16
    assert bytes_["o"] == 16 * 2 * 4 * 2, "two beats of four 16-bit elements a row"


def test_a_state_is_a_header_and_the_accumulators_in_three_pieces():
    bytes_ = port_bytes(DEFAULT, replace(JOB, from_state=1, emit_state=1))
    assert bytes_["state"] == bytes_["o"] == 16 * (1 + 16) * 3 * 8


def test_a_dropped_last_key_still_tells_the_end_of_its_job():
    assert port_bytes(DEFAULT, replace(JOB, last_survives=0))["v_req"] == 31 * 4


def test_shared_values_move_nothing_but_the_end_of_their_job():
    shared = port_bytes(DEFAULT, replace(JOB, shared=1))
    assert shared == port_bytes(DEFAULT, JOB) | {"v": 0, "v_req": 4}
    both = port_bytes(DEFAULT, JobShape.concatenate([JOB, replace(JOB, shared=1)]))
    assert (both["v"], both["v_req"]) == (30 * 64, 31 * 4)


def test_bytes_of_jobs_add_up():
    both = JobShape.concatenate([JOB, replace(JOB, emit_state=1, rows=3)])
    parts = [port_bytes(DEFAULT, JOB), port_bytes(DEFAULT, replace(JOB, emit_state=1, rows=3))]
    assert port_bytes(DEFAULT, both) == {name: parts[0][name] + parts[1][name] for name in PORTS}


def test_bytes_of_a_golden_job():
    survivors = np.arange(20) % 3 == 0
    job = Job(
        query=np.zeros((5, 40), np.int8),
        positions=np.zeros(5, np.int64),
        key=np.zeros((20, 40), np.int8),
        indices=np.arange(20, dtype=np.int64),
        value=np.zeros((20, 24), np.int8),
        scale=ScoreScale(1, 0),
    )
    bytes_ = job_bytes(DEFAULT, job, survivors)
    assert bytes_ == {"q": 5 * 48, "state": 0, "k": 20 * 48, "v_req": 8 * 4, "v": 7 * 32, "o": 5 * 6 * 8}
