"""The core on AXI4-Stream: what lies where, and a job that comes through unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.sim import Simulator

from golden.block import run_job
from golden.config import PRESETS, CoreConfig
from golden.job import Job, ScoreScale
from golden.threshold import Threshold
from rtl.axi.stream_top import StreamTop, axi_streams
from rtl.interfaces import stats_layout
from rtl.verilog import describe
from sim.stimulus import job_word, output_from_words, stats_record, stimulus

CONFIG = CoreConfig(rows=2, lanes=4, max_head_dim=8, max_value_dim=8, max_keys=64, output_lanes=2, tag_bits=5)
CYCLES_MAX = 1500


def signals(config: CoreConfig, stream: str, word: int) -> dict[str, int]:
    """Return what a word of the core's stream is on AXI4-Stream."""
    axis = axi_streams(config)[stream]
    values = {}
    for signal, fields in axis.fields.items():
        value = low = 0
        for name in fields:
            field = axis.layout[name]
            value |= (word >> field.offset & ((1 << field.width) - 1)) << low
            low += field.width
        values[f"{axis.prefix}_{signal}"] = value
    return values


def test_what_lies_where_on_the_default_core():
    ports = describe(PRESETS["default"], "stream")["ports"]
    assert ports["q"]["tdata"] == {"width": 128, "fields": {"data": [0, 128]}}
    assert ports["q"]["tuser"] == {"width": 16, "fields": {"position": [0, 16]}}
    assert ports["o"]["tuser"]["fields"] == {"tag": [0, 16]}
    assert ports["v_req"]["tdata"] == {"width": 24, "fields": {"index": [0, 16], "wanted": [16, 1]}}
    assert ports["v"]["signals"] == ["s_axis_v_tdata", "s_axis_v_tvalid", "s_axis_v_tready"]
    assert {name for name, port in ports.items() if "tlast" in port} == {"q", "state", "k", "v_req", "o"}
    assert ports["stats"]["tdata"]["fields"]["counts.dropped"][1] == 16 * 17


def run(job: Job) -> dict[str, list[dict[str, int]]]:
    """Stream a job through the top level, outputs stalled now and then; return what comes out."""
    top = StreamTop(CONFIG)
    sent = stimulus(job, CONFIG)
    words = {"job": [job_word(sent.fields, CONFIG)], "q": sent.query, "k": sent.key, "state": [], "v": []}
    streams = axi_streams(CONFIG)
    taken: dict[str, list[dict[str, int]]] = {"v_req": [], "o": [], "stats": []}

    async def testbench(ctx: Any) -> None:
        def get(port: str) -> int:
            return ctx.get(getattr(top, port))

        def put(port: str, value: int) -> None:
            ctx.set(getattr(top, port), value)

        async def edge() -> None:
            await ctx.delay(1e-6)
            put("aclk", 1)
            await ctx.delay(1e-6)
            put("aclk", 0)

        put("aresetn", 0)
        await edge()
        put("aresetn", 1)
        for cycle in range(CYCLES_MAX):
            for name in words:
                prefix = streams[name].prefix
                put(f"{prefix}_tvalid", bool(words[name]))
                for port, value in signals(CONFIG, name, words[name][0] if words[name] else 0).items():
                    put(port, value)
            for name in taken:
                put(f"{streams[name].prefix}_tready", bool((cycle + len(name)) % 3))
            await ctx.delay(1e-7)
            for name in words:
                if words[name] and get(f"{streams[name].prefix}_tready"):
                    words[name].pop(0)
            for name, beats in taken.items():
                prefix = streams[name].prefix
                if get(f"{prefix}_tvalid") and get(f"{prefix}_tready"):
                    beats.append({signal: get(f"{prefix}_{signal}") for signal in streams[name].fields})
                    if name == "v_req" and beats[-1]["tdata"] >> CONFIG.position_bits:
                        words["v"] += sent.values[beats[-1]["tdata"] % CONFIG.max_keys]
            await edge()
            if taken["stats"] and taken["o"] and taken["o"][-1]["tlast"]:
                return
        raise AssertionError("the job does not end")

    simulator = Simulator(top)
    simulator.add_testbench(testbench)
    simulator.run()
    assert not any(words.values())
    return taken


def test_a_job_is_bit_exact():
    rng = np.random.default_rng(5)
    query, key, value = (rng.integers(-90, 90, shape).astype(np.int8) for shape in ((2, 7), (11, 7), (11, 6)))
    positions, indices = np.array([10, 11]), np.arange(11) + 3
    job = Job(query, positions, key, indices, value, ScoreScale.of(0.05), Threshold.of(tau=2), tag=21)
    golden = run_job(job, CONFIG.lanes)
    assert 0 < golden.survivors.sum() < job.keys
    taken = run(job)
    assert np.array_equal(output_from_words([b["tdata"] for b in taken["o"]], 2, 6, CONFIG), golden.output)
    assert {beat["tuser"] for beat in taken["o"]} == {21}
    assert [beat["tlast"] for beat in taken["o"]] == [0] * (len(taken["o"]) - 1) + [1]
    wanted = [b["tdata"] % CONFIG.max_keys for b in taken["v_req"] if b["tdata"] >> CONFIG.position_bits]
    assert wanted == list(indices[golden.survivors])
    assert taken["v_req"][-1]["tlast"] == 1
    (record,) = taken["stats"]
    assert record["tdata"] >> stats_layout(CONFIG).size == 0
    statistics = stats_record(record["tdata"], CONFIG)
    assert (statistics["tag"], statistics["status"]) == (21, 0)
    assert (statistics["keys"], statistics["survivors"]) == (11, golden.survivors.sum())
