"""What simulated layers took, as text, JSON, Markdown and CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from golden import formats
from golden.config import ClusterConfig, CoreConfig
from golden.files import with_suffixes, write_text
from golden.masks import Mask, MaskKind
from golden.quantise import QuantisedAttention
from golden.tables import markdown_table
from sim.cluster import ClusterMeasurement
from sim.simulate import LayerRun

COLUMNS = {
    "tau": "tau (bits)",
    "snr_db": "SNR (dB)",
    "max_error": "largest error",
    "survivors": "survivors",
    "cycles": "cycles",
    "utilisation": "utilisation",
    "value_bytes": "value bytes",
}

SUFFIXES = (".md", ".csv", ".json")


def shape_fields(attention: QuantisedAttention) -> dict[str, int]:
    """Return the shape of a layer, ready for JSON."""
    names = ("kv_heads", "queries", "keys", "head_dim", "value_dim")
    return {"heads": attention.query_heads, **{name: getattr(attention, name) for name in names}}


def mask_fields(mask: Mask) -> dict[str, bool | int | None]:
    """Return the mask of a layer, ready for JSON."""
    return {"causal": mask.kind != MaskKind.NONE, "window": mask.window or None}


def _bits(tau: int) -> float | None:
    """Return a threshold in bits, None if it drops nothing."""
    return None if tau == formats.TAU_KEEP_ALL else tau / (1 << formats.FRACTION_BITS)


def point(tau: float | None, run: LayerRun) -> dict[str, Any]:
    """Return the figures of a simulated layer, ready for JSON; `tau` is what was asked for, in bits.

    ``taus_used`` are the smallest and the largest that the jobs' records report.
    """
    measurement = run.measurement
    uses = {use.name.lower(): cycles for use, cycles in measurement.uses.items()}
    attended = run.golden.attended
    return {
        "tau": tau,
        "taus_used": [_bits(least_or_most(measurement.taus)) for least_or_most in (min, max)],
        "snr_db": run.snr_db,
        "max_error": run.max_error,
        "survivors": float(attended.survivors.sum() / attended.streamed.sum()),
        "saturated": int(attended.saturated.sum()),
        "jobs": len(run.golden.plan),
        "cycles": measurement.cycles,
        "array_cycles": uses["qk"] + uses["pv"],
        "qk_cycles": uses["qk"],
        "pv_cycles": uses["pv"],
        "uses": uses,
        "macs": measurement.macs,
        "utilisation": measurement.utilisation,
        "bytes": measurement.bytes,
    }


def print_run(title: str, config: CoreConfig | ClusterConfig, figures: dict[str, Any]) -> None:
    """Print the figures of one simulated layer."""
    uses = ", ".join(f"{name} {cycles}" for name, cycles in figures["uses"].items() if cycles)
    moved = ", ".join(f"{name} {count}" for name, count in figures["bytes"].items() if count)
    taus = dict.fromkeys("all" if tau is None else f"{tau:g}" for tau in figures["taus_used"])
    print(f"{title}: equal to golden, bit for bit")
    for name, text in (
        ("core", config.size),
        ("jobs", f"{figures['jobs']}"),
        ("accuracy", f"SNR {figures['snr_db']:.1f} dB, largest error {figures['max_error']:.3g}, against float64"),
        ("tau", f"{' to '.join(taus)}, as the records say"),
        ("saturated", f"{figures['saturated']} scores"),
        ("survivors", f"{figures['survivors']:.1%} of the keys streamed"),
        ("cycles", f"{figures['cycles']}, first input beat to last output beat"),
        ("utilisation", f"{figures['utilisation']:.2%} of the multiply-accumulates"),
        ("array", f"{uses} cycles"),
        ("bytes", moved),
    ):
        print(f"  {name:12}{text}")


def _row(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a table row, by column."""
    return {name: figures["bytes"]["v"] if name == "value_bytes" else figures[name] for name in COLUMNS}


def _cells(figures: dict[str, Any]) -> list[str]:
    """Return a table row as text."""
    row = _row(figures)
    formats = {"tau": "g", "snr_db": ".1f", "max_error": ".3g", "survivors": ".1%", "utilisation": ".1%"}
    return ["all" if value is None else format(value, formats.get(name, "")) for name, value in row.items()]


def _finite(content: Any) -> Any:
    """Return `content` with null for every number that JSON can't write: the SNR of an output without error."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`, with null for infinite numbers, or raise InputError if that can't be done."""
    write_text(path, json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def summary_files(stem: Path) -> tuple[Path, Path, Path]:
    """Return the paths of the Markdown, CSV and JSON of a summary; `stem` may be one of them, and hold other dots."""
    needs = "a summary needs the name of its files, without .md, .csv and .json"
    markdown, table, content = with_suffixes(stem, SUFFIXES, needs)
    return markdown, table, content


def cluster_table(measured: dict[str, ClusterMeasurement]) -> str:
    """Return what each rule took on a cluster, as a table in Markdown."""
    rows = []
    for name, found in measured.items():
        each = ", ".join(f"{worked / found.cycles:.1%}" for worked in found.worked)
        rows.append([name, f"{found.cycles}", f"{found.busy:.1%}", each, f"{found.merges}"])
    return markdown_table(["rule", "cycles", "cores busy", "of each core", "merges"], rows, ["rule", "of each core"])


def write_summary(stem: Path, summary: dict[str, Any], points: Sequence[dict[str, Any]]) -> str:
    """Write `summary` as JSON, and its points as a table in Markdown and CSV; return the table."""
    markdown, comma_separated, content = summary_files(stem)
    text = markdown_table(list(COLUMNS.values()), [_cells(point) for point in points])
    write_json(content, summary)
    write_text(markdown, text + "\n")
    lines = StringIO()
    writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_row, points))
    write_text(comma_separated, lines.getvalue())
    return text
