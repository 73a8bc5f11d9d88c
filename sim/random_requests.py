"""Random requests to a device: heads, groups, masks, pages, block masks, parts of keys, states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden import formats
from golden.block import run_job
from golden.block_mask import BlockMask
from golden.device.config import DeviceConfig
from golden.device.layout import Request
from golden.job import Job
from golden.masks import Mask, MaskKind
from golden.quantise import QuantisedAttention
from golden.state import PartialState
from golden.threshold import Threshold

BEATS_MAX = 3000
"""Beats of keys and values of all jobs of a request, about, so that none takes long."""


def _int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.clip(np.rint(rng.normal(0, rng.uniform(5, 60), size=shape)), -128, 127).astype(np.int8)


def _attention(rng: np.random.Generator, config: DeviceConfig) -> QuantisedAttention:
    """Return a layer of a few heads, with queries at any positions."""
    core = config.core
    head_dim, value_dim = int(rng.integers(1, core.max_head_dim + 1)), int(rng.integers(1, core.max_value_dim + 1))
    shared = bool(core.shared_values) and rng.random() < 0.5
    if shared:
        value_dim = min(head_dim, value_dim)
    kv_heads, group = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3, core.rows, core.rows + 1]))
    rows = int(rng.integers(1, 4 * core.rows))
    queries = max(1, rows // group)
    words = core.head_beats(head_dim) + core.value_beats(value_dim)
    jobs = kv_heads * -(-queries * group // core.rows)
    longest = min(core.max_keys, max(2, BEATS_MAX // (words * jobs)))
    keys = int(rng.integers(1, longest + 1))
    first_position = int(rng.integers(0, max(1, min(core.max_keys - queries, 2 * keys)) + 1))
    if first_position + queries > core.max_keys:
        first_position = core.max_keys - queries
    key = _int8(rng, kv_heads, keys, head_dim)
    scale = np.full(kv_heads, 1 / 32)
    return QuantisedAttention(
        query=_int8(rng, kv_heads * group, queries, head_dim),
        key=key,
        value=np.ascontiguousarray(key[:, :, :value_dim]) if shared else _int8(rng, kv_heads, keys, value_dim),
        query_scale=rng.uniform(0.01, 0.06, kv_heads),
        key_scale=scale,
        value_scale=scale,
        softmax_scale=float(2.0 ** rng.uniform(-4, 0)),
        shared=shared,
        row_positions=first_position + np.arange(queries, dtype=np.int64),
    )


def _mask(rng: np.random.Generator, attention: QuantisedAttention, keys: slice, config: DeviceConfig) -> Mask:
    """Return a mask under which every block sees a key, if some mask by position does."""
    first, last = (int(position) for position in attention.positions[[0, -1]])
    if first < keys.start or rng.random() < 0.3:
        return Mask()
    # The window of the last row has to reach back to a key.
    least = max(1, last - keys.stop + 2)
    if rng.random() < 0.4 or least > config.core.max_keys:
        return Mask(MaskKind.CAUSAL)
    return Mask(MaskKind.WINDOW, int(rng.integers(least, min(last + 3, config.core.max_keys) + 1)))


def _block_mask(rng: np.random.Generator, request: Request, config: DeviceConfig) -> BlockMask:
    """Return a block mask that leaves every job its first key."""
    attention, positions = request.attention, request.row_positions()
    key_block, query_block = int(rng.choice([1, 2, 4, 6, 16, 48])), int(rng.choice([1, 3, config.core.rows]))
    blocks = -(-attention.keys // key_block), int(positions[-1]) // query_block + 1
    allowed = rng.random((attention.kv_heads, *reversed(blocks))) < rng.uniform(0.1, 1)
    for rows in request.block_rows(config.core.rows):
        first_key = max(request.first_key, request.mask.window and int(positions[rows][0]) - request.mask.window + 1)
        allowed[:, int(positions[rows][0]) // query_block, first_key // key_block] = True
    return BlockMask(allowed, query_block, key_block)


def _threshold(rng: np.random.Generator, config: DeviceConfig) -> Threshold:
    """Return a threshold: none, a low or a high tau, with an error bound or a target if the core has them."""
    if rng.random() < 0.3:
        return Threshold()
    bounded, targeted = (rng.random() < 0.3 for _ in range(2))
    return Threshold(
        int(rng.integers(formats.TAU_MIN, int(rng.choice([2, 13])) << formats.FRACTION_BITS)),
        int(rng.integers(1, formats.EPSILON_SHIFT_MAX + 1)) if bounded and config.core.rows_per_budget else 0,
        int(rng.integers(1, 1 << formats.TARGET_BITS)) if targeted and config.core.target_control else 0,
    )


def _state(rng: np.random.Generator, rows: int, attention: QuantisedAttention, config: DeviceConfig) -> PartialState:
    """Return a state that some keys leave to rows, or that of none."""
    if rng.random() < 0.2:
        return PartialState.empty(rows, attention.value_dim)
    keys = int(rng.integers(1, 6))
    job = Job(
        query=_int8(rng, rows, attention.head_dim),
        positions=np.zeros(rows, dtype=np.int64),
        key=_int8(rng, keys, attention.head_dim),
        indices=np.arange(keys, dtype=np.int64),
        value=_int8(rng, keys, attention.value_dim),
        scale=attention.score_scale(0),
    )
    return run_job(job, config.core.lanes).state


def random_request(rng: np.random.Generator, config: DeviceConfig) -> Request:
    """Return a request that a device of `config` can hold."""
    attention = _attention(rng, config)
    keys = slice(0, attention.keys)
    if rng.random() < 0.3:
        start = int(rng.integers(0, attention.keys))
        keys = slice(start, int(rng.integers(start + 1, attention.keys + 1)))
    threshold = _threshold(rng, config)
    request = Request(
        attention,
        mask=_mask(rng, attention, keys, config),
        threshold=threshold,
        keys=keys,
        emit_state=bool(rng.random() < 0.25),
        continue_tau=bool(threshold.target and rng.random() < 0.5),
    )
    sizes = [size for size in (16, 32, 64) if attention.keys <= size * config.page_entries]
    if sizes and not attention.shared and rng.random() < 0.35:
        size = int(rng.choice(sizes))
        pages = -(-attention.keys // size)
        request = replace(request, pages=rng.permutation(pages + int(rng.integers(3)))[:pages], page_keys=size)
    if rng.random() < 0.3:
        request = replace(request, block_mask=_block_mask(rng, request, config))
    if rng.random() < 0.25:
        blocks = request.block_rows(config.core.rows) * attention.kv_heads
        states = [_state(rng, rows.stop - rows.start, attention, config) for rows in blocks]
        request = replace(request, states=states)
    return request


def features(request: Request, config: DeviceConfig) -> list[str]:
    """Return what a request has, in a few words each."""
    attention, core = request.attention, config.core
    rows = attention.queries * attention.group
    has = {
        "several kv heads": attention.kv_heads > 1,
        "grouped queries": attention.group > 1,
        "several blocks of rows": rows > core.rows,
        "last block not full": rows % core.rows > 0,
        "last word not full": bool(attention.head_dim % core.lanes or attention.value_dim % core.lanes),
        "causal mask": request.mask.kind == MaskKind.CAUSAL,
        "window": request.mask.kind == MaskKind.WINDOW,
        "block mask": request.block_mask is not None,
        "part of the keys": (request.first_key, request.end_key) != (0, attention.keys),
        "paged keys": request.pages is not None,
        "from states": request.states is not None,
        "to states": request.emit_state,
        "shared values": attention.shared,
        "tau": not request.threshold.keeps_all,
        "error bound": request.threshold.epsilon_shift > 0,
        "target": request.threshold.target > 0,
        "continued tau": request.continue_tau,
    }
    return [name for name, there in has.items() if there]
