"""Fills of the scratchpad, kv head by kv head."""

from __future__ import annotations

import pytest
from rtl_bench import Bench, simulate
from stream_rules import Sink, Stall, at_random, flowing
from test_rtl_block_sequence import expected_blocks
from test_rtl_job_sequence import CONFIG, layers, place

from rtl.axi.fill_sequence import FillSequence
from rtl.axi.read_master import Client


@pytest.mark.parametrize("client", [Client.KEY, Client.VALUE])
@pytest.mark.parametrize("stall", [flowing, at_random(1)], ids=["flowing", "stalled"])
def test_every_head_is_filled(client: Client, stall: Stall):
    name = client.name.lower()

    async def process(bench: Bench) -> None:
        for d, layer in layers(3, 6):
            bench.pulse({"start": 1})
            bench.set({"layer": layer})
            await bench.tick()
            bench.pulse({})
            heads = [block for block in expected_blocks(d) if block["first"]]
            sink = Sink(bench, "fill", stall)
            start = bench.cycle
            while len(sink.words) < d.kv_heads:
                assert bench.get("heads") == len(sink.words)
                assert bench.get("fill.valid")
                sink.step()
                await bench.tick()
            if stall is flowing:
                assert bench.cycle - start == d.kv_heads
            assert bench.get("heads") == d.kv_heads
            assert not bench.get("fill.valid")
            bounds = {"first": layer["first"], "last": layer["last"]}
            assert sink.words == [{"place": place(d, layer, head, name), **bounds} for head in heads]
            bench.set({"fill.ready": 0})

    simulate(FillSequence(CONFIG, client), process)
