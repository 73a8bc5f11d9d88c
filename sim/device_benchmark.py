"""Benchmarks of the simulated device: from a descriptor's first read to its record, memory to memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from golden.device.config import DeviceConfig
from golden.device.layout import Request
from golden.masks import Mask
from golden.quantise import quantise
from golden.tensors import load_attention
from golden.threshold import Threshold
from sim.device import simulate_device
from sim.device_testbench import DeviceOutcome, DeviceRun

LATENCY = 50
SEED = 1
HEAD_DIM = 64
PREFILL_HEADS, PREFILL_LENGTH = 8, 512
DECODE_KEYS, DECODE_HEADS, DECODE_KV_HEADS = 4096, 8, 2
DECODE_TAU = 6.0

CAPTURE = Path(__file__).parent.parent / "golden" / "data" / "minilm_l3_128.npz"


def _random(heads: int, kv_heads: int, queries: int, keys: int, spread: float = 1.0) -> tuple[np.ndarray, ...]:
    """Return normally distributed q, k and v; `spread` is the standard deviation of q."""
    rng = np.random.default_rng(SEED)
    q = rng.normal(0, spread, (heads, queries, HEAD_DIM))
    k, v = (rng.normal(size=(kv_heads, keys, HEAD_DIM)) for _ in range(2))
    return q, k, v


def _decode(tau: float | None) -> Request:
    """Return a step of decode, whose queries spread logits over about 10 bits."""
    tensors = _random(DECODE_HEADS, DECODE_KV_HEADS, 1, DECODE_KEYS, spread=2.0)
    return Request(quantise(*tensors), threshold=Threshold.of(tau))


def requests() -> dict[str, Request]:
    """Return what is measured, by what it is."""
    capture = load_attention(CAPTURE)
    prefill = quantise(*_random(PREFILL_HEADS, PREFILL_HEADS, PREFILL_LENGTH, PREFILL_LENGTH))
    attention = capture.quantise()
    shape = f"{attention.query_heads} heads x {attention.queries} x {attention.head_dim}"
    size = f"{PREFILL_HEADS} heads x {PREFILL_LENGTH} x {HEAD_DIM}"
    decode = f"decode, {DECODE_HEADS} query heads on {DECODE_KV_HEADS} kv heads x {DECODE_KEYS} keys x {HEAD_DIM}"
    return {
        f"MiniLM capture, {shape}": Request(attention, capture.mask),
        f"causal prefill, {size}, random": Request(prefill, Mask.of(causal=True)),
        f"{decode}, random, nothing dropped": _decode(None),
        f"{decode}, random, tau {DECODE_TAU:g}": _decode(DECODE_TAU),
    }


def compulsory_bytes(request: Request) -> int:
    """Return the bytes of q, k and v: what has to be read if each is read once."""
    attention = request.attention
    return attention.query.size + attention.key.size + attention.value.size


def figures(request: Request, outcome: DeviceOutcome, config: DeviceConfig) -> dict[str, float]:
    """Return what was measured of the only request of a run."""
    (record,) = outcome.records
    counters = outcome.counters
    return {
        "cycles": record.cycles,
        "jobs": record.jobs,
        "survivors": record.survivors / record.keys,
        "utilisation": (counters["QK"] + counters["PV"]) / record.cycles,
        "read_bytes": record.read_bytes,
        "write_bytes": record.write_bytes,
        "read_share": record.read_bytes / config.beat_bytes / record.cycles,
        "over_compulsory": record.read_bytes / compulsory_bytes(request) - 1,
    }


def report(label: str, request: Request, outcome: DeviceOutcome, config: DeviceConfig) -> str:
    """Return what was measured of a request, in a few lines."""
    found = figures(request, outcome, config)
    return (
        f"{label}: {found['cycles']} cycles, {found['jobs']} jobs, {found['survivors']:.1%} of the keys survive\n"
        f"  array used in {found['utilisation']:.2%} of the cycles, a beat read in {found['read_share']:.2%}\n"
        f"  {found['read_bytes']} bytes read, {found['over_compulsory']:+.2%} on those of q, k and v; "
        f"{found['write_bytes']} written"
    )


def run_device_benchmarks(config: DeviceConfig, latency: int = LATENCY) -> None:
    """Run all benchmarks on `config` and print what they measured, held to the model byte by byte."""
    asked = requests()
    outcomes = simulate_device(config, [DeviceRun(label, [asked[label]], latency) for label in asked], rules=False)
    print(f"Device of a {config.size}, {latency} cycles of memory latency, a beat a cycle either way.")
    print("From the first read for the descriptor to its record; output and traffic are equal to the model's.")
    for (label, request), outcome in zip(asked.items(), outcomes, strict=True):
        print(report(label, request, outcome, config))
