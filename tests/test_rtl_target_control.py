"""The controller of tau: what every job leaves against golden's, when, and which jobs leave nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rtl_bench import context, idle, trace

from golden import formats
from golden.config import CoreConfig
from golden.threshold import Threshold
from rtl.interfaces import Status
from rtl.target_control import TAU_LATENCY, TargetControl

CONFIG = CoreConfig(rows=2, lanes=4, max_head_dim=16, max_value_dim=16, max_keys=256, rows_per_scaler=2)
KEEP_ALL = formats.TAU_KEEP_ALL


def verdict(ctx: int, keep: bool, first: bool, last: bool, void: bool = False) -> dict[str, Any]:
    column = {"ctx": ctx, "index": 0, "first": int(first), "last": int(last), "void": int(void)}
    return {"valid": 1, "verdict": {"column": column, "keep": int(keep)}}


def keys_of(ctx: int, kept: list[bool]) -> list[dict[str, Any]]:
    """Return the verdicts of a job; one that keeps keys out of none is a single void column."""
    if not kept:
        return [verdict(ctx, False, True, True, void=True)]
    return [verdict(ctx, keep, n == 0, n == len(kept) - 1) for n, keep in enumerate(kept)]


def contexts_of(*fields: dict[str, int]) -> list[dict[str, int]]:
    return [context(CONFIG, **given) for given in fields]


@pytest.mark.parametrize("gap", [0, 1])
def test_what_jobs_leave_is_golden_s(gap: int):
    """Random jobs in turn, half of which go on from the one before; each may begin as soon as its tau is there."""
    rng = np.random.default_rng(3)
    stimulus: list[dict[str, Any]] = []
    expected: dict[int, tuple[int, int]] = {}
    fields: list[dict[str, int]] = [{}, {}]
    left = KEEP_ALL
    reached = set()
    for n in range(40):
        ctx = n % 2
        own = int(rng.choice([formats.TAU_MIN, 300, 890, KEEP_ALL, int(rng.integers(64, 65536))]))
        target = int(rng.choice([0, 1, 1 << 15, 65535, int(rng.integers(1, 1 << 16))]))
        continues = bool(rng.random() < 0.5)
        fields[ctx] = {"tau": own, "target": target, "continue_tau": int(continues)}
        keys = int(rng.choice([1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 64, 65]) if n else 256)
        kept = rng.random(keys) < rng.random()
        held = {"contexts": contexts_of(*fields)}
        if continues:
            stimulus += [held] * TAU_LATENCY
        expected[len(stimulus)] = (ctx, left if continues else own)
        for ports in keys_of(ctx, kept.tolist()):
            stimulus += [held | ports, *[held] * gap]
        before = Threshold(left if continues else own, target=target)
        left = before.after(int(kept.sum()), keys).tau
        reached.add(left)
    assert {formats.TAU_MIN, formats.TAU_MAX_CONTROLLED} <= reached
    assert len(reached) > 15
    seen = trace(TargetControl(CONFIG), stimulus, ("taus",))
    for cycle, (ctx, tau) in expected.items():
        assert seen[cycle][0][ctx] == tau, cycle


def left_after(jobs: list[tuple[dict[str, int], list[dict[str, Any]]]], wait: int = TAU_LATENCY) -> int:
    """Return what is left so many cycles after the last verdict of jobs in turn."""
    stimulus: list[dict[str, Any]] = []
    fields: list[dict[str, int]] = [{}, {"continue_tau": 1}]
    for n, (given, ports) in enumerate(jobs):
        fields[n % 2], fields[1 - n % 2] = given, {"continue_tau": 1}
        contexts = contexts_of(*fields)
        stimulus += [{"contexts": contexts} | cycle for cycle in ports]
        # A tau that a job goes on from stays there while it runs.
        stimulus += [{"contexts": contexts}] * wait
    taus = trace(TargetControl(CONFIG), stimulus, ("taus",))[-1][0]
    return taus[len(jobs) % 2]


def test_a_tau_appears_three_cycles_after_the_last_verdict():
    half = {"tau": 512, "target": 1 << 15}
    job = keys_of(0, [True] * 4)
    moved = Threshold(512, target=1 << 15).after(4, 4).tau
    assert left_after([(half, job)]) == moved == 448
    assert left_after([(half, job)], TAU_LATENCY - 1) == KEEP_ALL


@pytest.mark.parametrize(("tau", "left"), [(128, 64), (127, 64), (65, 64), (64, 64)])
def test_a_tau_falls_to_its_least(tau: int, left: int):
    """All of the keys survive, where half should: 64 units less."""
    assert left_after([({"tau": tau, "target": 1 << 15}, keys_of(0, [True] * 4))]) == left


@pytest.mark.parametrize(("tau", "left"), [(832, 896), (833, 896), (896, 896), (KEEP_ALL, 896), (897, 896)])
def test_a_tau_rises_to_its_most(tau: int, left: int):
    """None of the keys survives, where half should: 64 units more."""
    assert left_after([({"tau": tau, "target": 1 << 15}, keys_of(0, [False] * 4))]) == left


def test_after_a_reset_nothing_is_dropped():
    (taus,) = trace(TargetControl(CONFIG), idle(1), ("taus",), {"contexts": contexts_of({"continue_tau": 1}, {})})[0]
    assert taus[0] == KEEP_ALL


def test_a_job_without_a_target_leaves_its_own_tau():
    kept = [True, False]
    assert left_after([({"tau": 5000}, keys_of(0, kept))]) == 5000
    continued = ({"continue_tau": 1}, keys_of(1, kept))
    assert left_after([({"tau": 5000}, keys_of(0, kept)), continued]) == 5000


def test_a_rejected_job_leaves_what_was_there():
    first = ({"tau": 777}, keys_of(0, [True]))
    rejected = ({"tau": 100, "target": 99, "status": int(Status.TAU)}, keys_of(1, []))
    assert left_after([first, rejected]) == 777


def test_a_job_that_is_cut_counts_the_keys_that_came():
    """The void column at its end is none of them; without any, tau only moves into its range."""
    half = {"tau": 512, "target": 1 << 15}
    cut = [*keys_of(0, [True] * 3)[:2], verdict(0, False, False, True, void=True)]
    assert left_after([(half, cut)]) == Threshold(512, target=1 << 15).after(2, 2).tau
    assert left_after([(half, keys_of(0, []))]) == 512
    assert left_after([({"tau": KEEP_ALL, "target": 1}, keys_of(0, []))]) == formats.TAU_MAX_CONTROLLED
