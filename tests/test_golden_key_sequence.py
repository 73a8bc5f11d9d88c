"""Commands of the key sequencer: the key lists of plans, and what is wrong with a command."""

from __future__ import annotations

import numpy as np
import pytest
from golden_cases import layers, masks
from hypothesis import assume, given
from hypothesis import strategies as st

from golden.block_mask import BlockMask
from golden.config import CoreConfig
from golden.errors import InputError
from golden.key_sequence import BITMAP_WORDS, WORD_BLOCKS, KeySequence, SequenceStatus, bitmap_of, job_sequence
from golden.masks import Mask, MaskKind
from golden.plan import plan_jobs
from golden.quantise import QuantisedAttention

MAX_KEYS = 256


@given(layers(), masks(), st.integers(1, 5), st.integers(1, 13), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_keys_are_those_of_the_plan(
    attention: QuantisedAttention, mask: Mask, query_block: int, key_block: int, rows: int, seed: int
):
    config = CoreConfig(rows=rows, lanes=4, max_head_dim=8, max_value_dim=8, max_keys=MAX_KEYS, rows_per_scaler=1)
    query_blocks = int(attention.positions.max()) // query_block + 1
    key_blocks = -(-attention.keys // key_block)
    random = np.random.default_rng(seed)
    block_mask = BlockMask(random.random((attention.kv_heads, query_blocks, key_blocks)) < 0.5, query_block, key_block)
    try:
        plan = plan_jobs(attention, config, mask, block_mask=block_mask)
    except InputError:
        # A block of rows without a key.
        assume(False)
    for planned in plan:
        sequence = job_sequence(planned.job.positions, attention.indices, mask, block_mask, planned.kv_head)
        status, keys = sequence.run(MAX_KEYS)
        assert status == SequenceStatus.OK
        assert keys.tolist() == planned.job.indices.tolist()


def test_blocks_of_any_size_are_cut_into_powers_of_two():
    allowed = np.array([True, False, True])
    for size, shift, times in ((16, 4, 1), (48, 4, 3), (7, 0, 7), (1, 0, 1), (6, 1, 3)):
        found, bitmap = bitmap_of(allowed, size)
        assert (found, len(bitmap)) == (shift, 3 * times)
        assert np.repeat(bitmap, 1 << shift).tolist() == np.repeat(allowed, size).tolist()


def test_a_bitmap_begins_with_the_word_of_the_first_key():
    """Keys 1000 to 1099 in blocks of 4: blocks 250 to 274, in words that begin at blocks 224 and 256."""
    bitmap = np.zeros(2 * WORD_BLOCKS, dtype=bool)
    bitmap[[250 - 224, 251 - 224, 274 - 224, 275 - 224]] = True
    status, keys = KeySequence(1001, 1099, 2, bitmap).run(2048)
    assert status == SequenceStatus.OK
    assert keys.tolist() == [*range(1001, 1008), *range(1096, 1099)]
    assert KeySequence(0, 4, 0, np.array([True, False, True, True])).words == [0b1101]
    assert KeySequence(0, 4, 0, np.zeros(0, dtype=bool)).words == [0]


ALL = np.ones(64, dtype=bool)
ROOM = BITMAP_WORDS * WORD_BLOCKS


@pytest.mark.parametrize(
    ("sequence", "status"),
    [
        (KeySequence(0, 4097, 2, ALL), SequenceStatus.RANGE),
        (KeySequence(0, 10, 13, ALL), SequenceStatus.RANGE),
        (KeySequence(10, 10, 0, ALL), SequenceStatus.EMPTY),
        (KeySequence(10, 20, 0, ALL, Mask(MaskKind.CAUSAL), (3, 9)), SequenceStatus.EMPTY),
        (KeySequence(0, 20, 0, ALL, Mask(MaskKind.WINDOW, 4), (30, 40)), SequenceStatus.EMPTY),
        (KeySequence(0, 20, 0, ~ALL), SequenceStatus.EMPTY),
        (KeySequence(0, 65, 0, ALL), SequenceStatus.BITMAP_SHORT),
        (KeySequence(0, ROOM + 1, 0, np.ones(ROOM + 32, dtype=bool)), SequenceStatus.BITMAP_LONG),
    ],
)
def test_a_command_that_is_wrong_has_no_keys(sequence: KeySequence, status: SequenceStatus):
    found, keys = sequence.run(2 * ROOM)
    assert (found, len(keys)) == (status, 0)


@pytest.mark.parametrize(
    ("positions", "indices", "key_block", "message"),
    [
        ([3, 1], np.arange(4), 4, "rows in the order of their positions"),
        ([1], np.array([0, 1, 3]), 4, "needs keys 0 to 2, not 0 to 3 with gaps"),
        ([1], np.arange(1, 4), 4, "needs keys 0 to 2, not 1 to 3 with gaps"),
        ([0], np.arange(12 * 700), 12, "room for 2048 blocks a job, and blocks of 12 keys are blocks of 4 to it"),
    ],
)
def test_layers_that_the_sequencer_can_t_follow_are_refused(
    positions: list[int], indices: np.ndarray, key_block: int, message: str
):
    block_mask = BlockMask(np.ones((1, 1, 700), dtype=bool), 4, key_block)
    with pytest.raises(InputError, match=message):
        job_sequence(np.array(positions), indices, Mask(), block_mask, 0)
