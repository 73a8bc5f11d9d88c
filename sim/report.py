"""What simulated layers took, as text, JSON, Markdown and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from golden.config import CoreConfig
from golden.errors import InputError
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


def point(tau: float | None, run: LayerRun) -> dict[str, Any]:
    """Return the figures of a simulated layer, ready for JSON."""
    measurement = run.measurement
    uses = {use.name.lower(): cycles for use, cycles in measurement.uses.items()}
    kept = sum(int(result.survivors.sum()) for result in run.golden.results)
    streamed = sum(len(result.survivors) for result in run.golden.results)
    return {
        "tau": tau,
        "snr_db": run.snr_db,
        "max_error": run.max_error,
        "survivors": kept / streamed,
        "saturated": int(run.golden.saturated.sum()),
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


def print_run(title: str, config: CoreConfig, figures: dict[str, Any]) -> None:
    """Print the figures of one simulated layer."""
    uses = ", ".join(f"{name} {cycles}" for name, cycles in figures["uses"].items() if cycles)
    moved = ", ".join(f"{name} {count}" for name, count in figures["bytes"].items() if count)
    print(f"{title}: equal to golden, bit for bit")
    for name, text in (
        ("core", f"{config.rows} x {config.lanes}"),
        ("jobs", f"{figures['jobs']}"),
        ("accuracy", f"SNR {figures['snr_db']:.1f} dB, largest error {figures['max_error']:.3g}, against float64"),
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
    formats = {"snr_db": ".1f", "max_error": ".3g", "survivors": ".1%", "utilisation": ".1%"}
    return ["all" if value is None else format(value, formats.get(name, "")) for name, value in row.items()]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path`, or raise InputError if that can't be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error


def write_summary(stem: Path, summary: dict[str, Any], points: Sequence[dict[str, Any]]) -> str:
    """Write `summary` as JSON, and its points as a table in Markdown and CSV; return the table."""
    table = [list(COLUMNS.values()), ["---:"] * len(COLUMNS), *map(_cells, points)]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in table)
    write_json(stem.with_suffix(".json"), summary)
    stem.with_suffix(".md").write_text(text + "\n")
    with stem.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(map(_row, points))
    return text
