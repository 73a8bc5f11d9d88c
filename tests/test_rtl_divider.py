"""Division: every quotient of small sums, the ends of large ones, and when it appears."""

from __future__ import annotations

import numpy as np
import pytest
from rtl_bench import Bench, idle, simulate, trace

from golden.config import CoreConfig
from golden.state import PartialState, normalise
from rtl.divider import DIVIDER_LATENCY, INTEGER_BITS, OFFSET, QUOTIENT_BITS, Divider

SMALL = CoreConfig(lanes=4, max_head_dim=16, max_value_dim=16, max_keys=16)
LARGE = CoreConfig(max_keys=1 << 20)
SMALL_SUMS = CoreConfig(lanes=4, max_head_dim=16, max_value_dim=16, max_keys=64)
LEAST_TOTAL = 2070
"""The smallest sum of a row that saw a key: the key that set its maximum weighs 2**-63/64 at least."""


def check(config: CoreConfig, cases: list[tuple[int, int]]) -> None:
    """Hold the divider to golden for an (accumulator, total) a cycle."""
    stimulus = [{"accumulator": accumulator, "total": total} for accumulator, total in cases]
    seen = trace(Divider(config), stimulus + idle(DIVIDER_LATENCY), ("quotient",))
    accumulators, totals = np.array(cases, dtype=np.int64).T
    state = PartialState(np.zeros_like(totals), totals, accumulators[:, None])
    assert [quotient for (quotient,) in seen[DIVIDER_LATENCY:]] == normalise(state)[:, 0].tolist()


def test_the_latency_is_two_for_the_offset_one_a_bit_and_one_for_rounding():
    assert DIVIDER_LATENCY == 2 + QUOTIENT_BITS + 1


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_every_quotient_of_a_small_sum(total: int):
    """From the offset below zero to what a quotient's bits hold: beyond both ends of the output's range."""
    above = ((1 << INTEGER_BITS) - OFFSET) * total
    check(SMALL, [(accumulator, total) for accumulator in range(-OFFSET * total, above)])


@pytest.mark.parametrize("config", [SMALL, LARGE], ids=["small", "large"])
def test_the_ends_of_a_row(config: CoreConfig):
    """-128 and 127 times the sum, a few units around them, and halves of an output unit."""
    largest = (1 << config.sum_bits) - 1
    cases = []
    for total in (1, 2, LEAST_TOTAL, 4095, 4096, config.max_keys * 4095, largest):
        cases += [(edge * total + d, total) for edge in (-128, -1, 0, 1, 127) for d in (-1, 0, 1)]
        cases += [((2 * n + 1) * total // 512 + d, total) for n in (-32768, -2, -1, 0, 1, 32511) for d in (0, 1)]
    check(config, cases)


def test_halves_round_up():
    check(SMALL, [(numerator, 512) for numerator in range(-1030, 1030)])


def test_no_sum_gives_zero():
    check(SMALL, [(accumulator, 0) for accumulator in (0, 1, -1, 12345, -12345)])


def test_what_truncation_leaves_beyond_the_ends_saturates():
    """Shifts round O down apart from l, which leaves up to two units of a sum that is then too small."""
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(500):
        total = int(rng.integers(LEAST_TOTAL, 2 * LEAST_TOTAL))
        cases += [(-128 * (total + 2) - int(rng.integers(3)), total), (127 * (total + 2), total)]
    check(SMALL, cases)


@pytest.mark.parametrize("config", [SMALL, LARGE], ids=["small", "large"])
def test_random_rows(config: CoreConfig):
    rng = np.random.default_rng(1)
    totals = rng.integers(1, 1 << config.sum_bits, 1000) >> rng.integers(0, config.sum_bits - 1, 1000)
    totals = np.maximum(totals, 1)
    accumulators = np.floor(totals * rng.uniform(-128, 127, 1000)).astype(np.int64)
    check(config, list(zip(accumulators.tolist(), totals.tolist(), strict=True)))


@pytest.mark.parametrize("config", [SMALL, LARGE], ids=["small", "large"])
def test_any_accumulator_over_any_sum(config: CoreConfig):
    """What no job can make saturates too: a state may come from anywhere."""
    rng = np.random.default_rng(2)
    most = 1 << (config.accumulator_bits - 1)
    accumulators = [-most, -most + 1, -1, 0, 1, most - 1]
    totals = [1, 2, 3, 511, 512, LEAST_TOTAL, (1 << config.sum_bits) - 1]
    cases = [(accumulator, total) for accumulator in accumulators for total in totals]
    for _ in range(1000):
        scale = int(rng.integers(config.sum_bits))
        total = max(1, int(rng.integers(1 << config.sum_bits)) >> scale)
        cases.append((int(rng.integers(-most, most)) >> int(rng.integers(config.sum_bits)), total))
    check(config, cases)


@pytest.mark.parametrize(("passes", "notice"), [(2, 0), (3, 4), (6, 1)])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_several_passes_give_the_same_quotients_at_the_same_latency(passes: int, notice: int, share: float):
    """Announced whenever the divider is free, or now and then; what comes in other cycles disturbs nothing."""
    rng = np.random.default_rng(3)
    total, cycles = 123_457, 120
    most = 130 * total
    seen: list[tuple[int, int, int]] = []
    accumulators = rng.integers(-most, most, cycles + notice + DIVIDER_LATENCY).tolist()

    async def process(bench: Bench) -> None:
        bench.set({"total": total})
        for accumulator in accumulators:
            free = bench.get("free")
            announced = int(free and bench.cycle < cycles and rng.random() < share)
            bench.pulse({"announced": announced, "accumulator": accumulator})
            assert bench.get("free") == free, "free follows what is announced within a cycle"
            seen.append((announced, bench.get("done"), bench.get("quotient")))
            await bench.tick()

    simulate(Divider(SMALL_SUMS, passes, notice), process)
    state = PartialState(np.zeros(1), np.array([total]), np.array([accumulators]))
    expected = normalise(state)[0].tolist()
    announced = [cycle for cycle, (told, _, _) in enumerate(seen) if told]
    done = {cycle: quotient for cycle, (_, told, quotient) in enumerate(seen) if told}
    assert done == {cycle + notice + DIVIDER_LATENCY: expected[cycle + notice] for cycle in announced}
    if share == 1.0:
        assert len(announced) == pytest.approx(cycles / passes, abs=QUOTIENT_BITS / passes)
