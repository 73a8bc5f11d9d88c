"""What peers were published to do: the figures that we know of, their measure, and what is said of bad ones."""

from copy import deepcopy

import pytest

from golden.errors import InputError
from perf_model.peers import EVIDENCE, load_peers, parse_peers, peers_table
from perf_model.settings import DATA, read_yaml

CONTENT = read_yaml(DATA / "peers.yaml")
PEERS = load_peers()


def measures(name: str) -> list[float | None]:
    return [PEERS[name].macs_per_multiplier_cycle(case) for case in PEERS[name].cases]


def test_all_peers_are_there_with_sources():
    assert {"ita", "fusemax", "spatten", "sanger", "pade", "mario"} <= set(PEERS)
    for peer in PEERS.values():
        for case in peer.cases:
            assert len(case.source) > 30
            assert case.evidence in EVIDENCE
    unused = set(CONTENT["sources"].values()) - {case.source for peer in PEERS.values() for case in peer.cases}
    assert not unused


def test_one_measure_leaves_out_size_and_clock():
    # 512 x 512 x 128 MACs on 1,024 multipliers in 32,769 cycles.
    assert measures("ita") == [pytest.approx(512 * 512 * 128 / (1024 * 32769)), None]
    assert measures("mario") == [pytest.approx(0.2995, abs=1e-4)]
    assert measures("fusemax")[0] == 0.8896
    # 529e9 operations a second, two a MAC, on 128 multipliers at 1 GHz; some were skipped, so more than one.
    assert measures("sanger") == [pytest.approx(529 / 256)]
    assert PEERS["sanger"].cases[0].skips
    assert measures("spatten") == [None, None, pytest.approx(360 / 256)]
    assert measures("pade") == [None]
    ita = PEERS["ita"]
    assert ita.picojoules_per_mac(ita.cases[1]) == pytest.approx(0.118, abs=0.001)
    assert ita.picojoules_per_mac(ita.cases[0]) is None


def test_the_table_has_a_line_a_case_and_dashes_for_what_nobody_published():
    header, *lines = peers_table(PEERS).splitlines()
    assert len(lines) == sum(len(peer.cases) for peer in PEERS.values())
    assert len({len(line) for line in [header, *lines]}) == 1
    (pade,) = (line for line in lines if line.startswith("PADE"))
    assert "7.43 x and 31.1 x H100" in pade
    assert "- " in pade
    (salca,) = (line for line in lines if line.startswith("Salca"))
    assert "3.82 x" in salca


def case(content):
    return content["peers"]["ita"]["cases"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["peers"]["ita"].pop("clock_mhz"), "peers.ita in x lacks the key 'clock_mhz', which may be null"),
        (lambda c: c["peers"]["ita"].update(name=None), "name in peers.ita in x can't be null or empty"),
        (lambda c: c["peers"]["ita"].update(cases=[]), "cases in peers.ita in x can't be null or empty"),
        (lambda c: c["peers"]["ita"].update(colour=None), "peers.ita in x has an unknown key 'colour'"),
        (lambda c: c["peers"]["ita"].update(multipliers=-4), "multipliers in peers.ita in x must be above 0, not -4"),
        (
            lambda c: c["peers"]["ita"].update(multipliers="many"),
            "multipliers in peers.ita in x must be a whole number",
        ),
        (lambda c: c["peers"].update(ita=3), "peers.ita in x must be a mapping"),
        (lambda c: c["peers"]["ita"]["cases"].append(3), r"peers.ita.cases\[2\] in x must be a mapping"),
        (lambda c: case(c).pop("cycles"), r"cases\[0\] in x must have both macs and cycles"),
        (lambda c: case(c).update(source="hearsay"), r"source in .* must be one of ita, .*hearsay"),
        (lambda c: case(c).pop("source"), r"cases\[0\] in x lacks the key 'source'"),
        (lambda c: case(c).update(evidence="rumour"), "evidence in .* must be one of simulated, "),
        (lambda c: case(c).update(cycles=0), "cycles in .* must be above 0, not 0"),
        (lambda c: c["peers"]["pade"]["cases"][0].pop("over"), "must say over what its speedup or efficiency is"),
        (lambda c: case(c).update(over="H100"), "must say over what its speedup or efficiency is"),
        (lambda c: c.pop("sources"), "lacks the key 'sources'"),
        (lambda c: c.update(more=1), "unknown key 'more'"),
    ],
)
def test_a_bad_file_is_refused(change, message: str):
    content = deepcopy(CONTENT)
    change(content)
    with pytest.raises(InputError, match=message):
        parse_peers(content, "x")
