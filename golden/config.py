"""The configuration of a core: the one description that golden, rtl, sim and perf_model share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from golden import formats
from golden.errors import InputError


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class CoreConfig:
    """Size of a streaming lean-attention core.

    Parameters
    ----------
    rows : int
        Query rows R that share one stream of keys, 1 to 64.
    lanes : int
        Multipliers W of a row, which is also the elements of a beat of q, k and v and the keys of a full pack. A power
        of two from 4 to 64.
    max_head_dim, max_value_dim : int
        Largest dimension of q and k, and of v. Multiples of `lanes`, at most 1024.
    max_keys : int
        Keys that a row may attend to, over all the jobs that contribute to its state, and the bound of every
        position. A power of two from 16 to 2**20. Sets the width of the accumulators.
    output_lanes : int
        Elements of a beat of o, and pipelined dividers. A power of two up to `lanes`.
    rows_per_scaler : int
        Rows that share one score multiplier. A divisor of `rows`. Scores of consecutive keys are then complete
        no closer than so many cycles, between which P V may use the array.
    score_slots : int
        Surviving keys whose scores wait for their pack. A power of two, at least ``2 * lanes`` and 32.
    tag_bits : int
        Width of the job tag that travels with outputs and statistics, 1 to 32.
    key_timeout : int
        Cycles without a beat of k that the core is ready for, after which it gives a job up. From 16 to 2**24, or 0
        to wait forever.
    shared_values : int
        1 for a core that also takes jobs whose values are the first elements of their keys, and captures them as the
        keys stream by; 0 for one that does not.
    rows_per_budget : int
        Rows that share a unit which keeps their budgets under an error bound, one row a cycle: keys of jobs with such a
        bound then are at least so many cycles apart. From 2 to 16, or 0 for a core without an error bound.
    target_control : int
        1 for a core that moves tau from job to job by a target share of survivors, 0 for one that does not.

    Raises
    ------
    InputError
        If a value is outside what is said above.
    """

    rows: int = 16
    lanes: int = 16
    max_head_dim: int = 64
    max_value_dim: int = 64
    max_keys: int = 65536
    output_lanes: int = 4
    rows_per_scaler: int = 2
    score_slots: int = 32
    tag_bits: int = 16
    key_timeout: int = 1 << 20
    shared_values: int = 0
    rows_per_budget: int = 4
    target_control: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{field.name} is {value!r}; it must be an integer")
        lanes_allowed = f"a power of two from 4 to 64, not {self.lanes}"
        checks = [
            (1 <= self.rows <= 64, "rows", f"from 1 to 64, not {self.rows}"),
            (_is_power_of_two(self.lanes) and 4 <= self.lanes <= 64, "lanes", lanes_allowed),
        ]
        for name in ("max_head_dim", "max_value_dim"):
            value = getattr(self, name)
            allowed = f"a multiple of lanes ({self.lanes}) from {self.lanes} to 1024, not {value}"
            checks.append((self.lanes > 0 and 0 < value <= 1024 and value % self.lanes == 0, name, allowed))
        checks += [
            (
                _is_power_of_two(self.max_keys) and 16 <= self.max_keys <= 1 << 20,
                "max_keys",
                f"a power of two from 16 to {1 << 20}, not {self.max_keys}",
            ),
            (
                _is_power_of_two(self.output_lanes) and self.output_lanes <= self.lanes,
                "output_lanes",
                f"a power of two from 1 to lanes ({self.lanes}), not {self.output_lanes}",
            ),
            (
                self.rows_per_scaler > 0 and self.rows % self.rows_per_scaler == 0,
                "rows_per_scaler",
                f"a divisor of rows ({self.rows}), not {self.rows_per_scaler}",
            ),
            (
                _is_power_of_two(self.score_slots) and max(32, 2 * self.lanes) <= self.score_slots <= 1024,
                "score_slots",
                f"a power of two from {max(32, 2 * self.lanes)} to 1024, not {self.score_slots}",
            ),
            (1 <= self.tag_bits <= 32, "tag_bits", f"from 1 to 32, not {self.tag_bits}"),
            (
                self.key_timeout == 0 or 16 <= self.key_timeout <= 1 << 24,
                "key_timeout",
                f"0 or from 16 to {1 << 24}, not {self.key_timeout}",
            ),
            (self.shared_values in (0, 1), "shared_values", f"0 or 1, not {self.shared_values}"),
            (
                self.rows_per_budget == 0 or 2 <= self.rows_per_budget <= 16,
                "rows_per_budget",
                f"0 or from 2 to 16, not {self.rows_per_budget}",
            ),
            (self.target_control in (0, 1), "target_control", f"0 or 1, not {self.target_control}"),
        ]
        for holds, name, allowed in checks:
            if not holds:
                raise InputError(f"{name} must be {allowed}")

    @property
    def size(self) -> str:
        """Rows and lanes, for messages."""
        return f"{self.rows} x {self.lanes}"

    @property
    def position_bits(self) -> int:
        """Width of a key index and of a row position."""
        return (self.max_keys - 1).bit_length()

    @property
    def count_bits(self) -> int:
        """Width of a count of keys, 0 to `max_keys`."""
        return self.max_keys.bit_length()

    @property
    def sum_bits(self) -> int:
        """Unsigned width of a row's running sum l."""
        return formats.PROBABILITY_BITS + self.position_bits

    @property
    def budget_bits(self) -> int:
        """Unsigned width of a row's budget, in units of what an error bound lets it drop."""
        return formats.MASS_FRACTION_BITS + self.position_bits

    @property
    def accumulator_bits(self) -> int:
        """Signed width of an element of the output accumulator O."""
        return self.sum_bits + formats.DATA_BITS

    @property
    def dot_bits(self) -> int:
        """Signed width of a whole score q . k."""
        return 2 * formats.DATA_BITS + (self.max_head_dim - 1).bit_length()

    @property
    def scalers(self) -> int:
        """Score multipliers of the core."""
        return self.rows // self.rows_per_scaler

    @property
    def capture_beats(self) -> int:
        """Beats of keys that a core with shared values holds beside its value lanes, a power of two.

        So many that keys never wait for room alone: one row comes while another is copied to the lanes, and from the
        last key of a pack to its P V, while keys go on, no lane is free.
        """
        shared = self.rows_per_scaler + self.rows_per_budget
        least = 2 * self.value_beats(self.max_value_dim) + self.lanes + shared + 28
        return 1 << (least - 1).bit_length()

    def head_beats(self, head_dim: int) -> int:
        """Beats T of a query or key row of `head_dim` elements."""
        return -(-head_dim // self.lanes)

    def value_beats(self, value_dim: int) -> int:
        """Beats of a value row of `value_dim` elements."""
        return -(-value_dim // self.lanes)

    def output_beats(self, value_dim: int) -> int:
        """Beats of an output row of `value_dim` elements."""
        return -(-value_dim // self.output_lanes)

    def beat_bytes(self, port: str) -> int:
        """Bytes of data that a transfer of `port` moves; a value request counts as the 4 bytes of an index."""
        if port == "v_req":
            return 4
        return 2 * self.output_lanes if port in ("o", "state") else self.lanes

    def to_dict(self) -> dict[str, int]:
        """Return the parameters by name, as the JSON beside the Verilog holds them."""
        return asdict(self)

    def override(self, **changes: int | None) -> CoreConfig:
        """Return a copy in which every change that is not None replaces the parameter of its name.

        Parameters that a change makes impossible and that were not given themselves (`score_slots`,
        `output_lanes`, `rows_per_scaler`) follow it, so that ``override(lanes=64)`` alone is a valid request.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        unknown = set(given) - {field.name for field in fields(self)}
        if unknown:
            raise InputError(f"the configuration has no parameter {sorted(unknown)[0]}")
        merged = self.to_dict() | given
        rows, lanes = merged["rows"], merged["lanes"]
        if "score_slots" not in given:
            merged["score_slots"] = max(merged["score_slots"], 2 * lanes)
        if "output_lanes" not in given:
            merged["output_lanes"] = min(merged["output_lanes"], lanes)
        if "rows_per_scaler" not in given and rows % merged["rows_per_scaler"]:
            merged["rows_per_scaler"] = 1
        return replace(self, **merged)


PRESETS: dict[str, CoreConfig] = {
    "tiny": CoreConfig(rows=4, lanes=4, output_lanes=1, rows_per_scaler=4),
    "small": CoreConfig(rows=8, lanes=8, output_lanes=1, rows_per_scaler=4),
    "default": CoreConfig(),
    "wide": CoreConfig(
        rows=32,
        lanes=32,
        max_head_dim=128,
        max_value_dim=128,
        output_lanes=8,
        score_slots=64,
        rows_per_budget=2,
    ),
    # All query heads of latent attention share the keys: many rows, for each pass over them serves so many heads.
    "latent": CoreConfig(
        rows=32,
        max_head_dim=576,
        max_value_dim=512,
        output_lanes=8,
        rows_per_scaler=16,
        shared_values=1,
        rows_per_budget=16,
    ),
}
"""Named configurations.

`rows_per_scaler` costs no cycles from a head dimension of 16 (tiny), 32 (small, default), 64 (wide) or 256 (latent) on;
`rows_per_budget`, in jobs with an error bound, from 16 (tiny), 32 (small), 64 (default, wide) or 256 (latent) on.
"""


@dataclass(frozen=True)
class ClusterConfig:
    """Size of a cluster: cores that share one queue of jobs, and a merge unit.

    Parameters
    ----------
    core : CoreConfig
        Each of the cores.
    cores : int
        How many, 1 to 64.
    queue_jobs : int
        Jobs that can wait in front of each core, from 3 to 256.
    queue_beats : int
        Beats of their queries that can wait there, from 3 to 4096.

    Raises
    ------
    InputError
        If a value is outside what is said above.
    """

    core: CoreConfig
    cores: int = 4
    queue_jobs: int = 16
    queue_beats: int = 512

    def __post_init__(self) -> None:
        for name, least, most in (("cores", 1, 64), ("queue_jobs", 3, 256), ("queue_beats", 3, 4096)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InputError(f"{name} must be an integer from {least} to {most}, not {value!r}")

    @property
    def size(self) -> str:
        """Cores, and their rows and lanes, for messages."""
        return f"{self.cores}-core {self.core.size}"

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters by name, those of the cores in ``core``."""
        return asdict(self)


def preset(name: str) -> CoreConfig:
    """Return the preset called `name`, or raise InputError with the names there are."""
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}; presets are {', '.join(PRESETS)}")
    return PRESETS[name]
