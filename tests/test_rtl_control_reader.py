"""Words of 32 bits for several targets, through one client of the read master."""

from __future__ import annotations

import numpy as np
import pytest
from rtl_bench import Bench, simulate
from stream_rules import Source, Stall, at_random, flowing

from golden.device.config import DEVICE_PRESETS
from rtl.axi.control_reader import REQUESTS_WAITING, ControlReader, Target

CONFIG = DEVICE_PRESETS["tiny"]
OUTPUTS = ("request", *(target.name.lower() for target in Target))


@pytest.mark.parametrize("stall", [flowing, at_random(1), at_random(2, 0.8)], ids=["flowing", "half", "slow"])
def test_every_word_goes_to_its_target(stall: Stall):
    rng = np.random.default_rng(3)
    requests = [
        {"address": 4 * int(rng.integers(1 << 30)), "words": int(rng.choice([1, 1, 2, 7, 40])), "target": target}
        for target in rng.choice(list(Target), 40).tolist()
    ]
    words = [int(rng.integers(1 << 32)) for request in requests for _ in range(request["words"])]
    expected: dict[int, list[dict[str, int]]] = {target: [] for target in Target}
    values = iter(words)
    for request in requests:
        for n in range(request["words"]):
            expected[request["target"]].append({"data": next(values), "last": int(n == request["words"] - 1)})

    async def process(bench: Bench) -> None:
        asked = Source(bench, "requests", requests, stall)
        answers = Source(bench, "words", [{"data": word} for word in words], stall)
        answers.limit = came = 0
        passed: dict[str, list[dict[str, int]]] = {name: [] for name in OUTPUTS}
        while answers.left or asked.left:
            # What passes through in a cycle is ready first, valid second.
            ready = {name: not stall(7 * bench.cycle + n) for n, name in enumerate(OUTPUTS)}
            bench.set({f"{name}.ready": value for name, value in ready.items()})
            asked.step()
            answers.step()
            for name, words_passed in passed.items():
                if ready[name] and bench.get(f"{name}.valid"):
                    words_passed.append(bench.get(f"{name}.payload"))
            came = sum(request["words"] for request in passed["request"])
            await bench.tick()
            # Words come once they were asked for.
            answers.limit = came
        assert passed["request"] == [
            {"address": request["address"], "words": request["words"], "more": 0} for request in requests
        ]
        for target in Target:
            assert passed[target.name.lower()] == expected[target]

    simulate(ControlReader(CONFIG), process)


def test_a_target_that_waits_holds_no_more_than_there_is_room_for():
    async def process(bench: Bench) -> None:
        asked = Source(bench, "requests", [{"address": 4 * n, "words": 1, "target": 0} for n in range(50)])
        bench.set({"request.ready": 1})
        for _ in range(60):
            asked.step()
            await bench.tick()
        assert len(asked.taken) == REQUESTS_WAITING

    simulate(ControlReader(CONFIG), process)
