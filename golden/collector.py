"""What attention that ran under the core's arithmetic adds up to, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from golden import formats
from golden.attended import Attended


@dataclass
class LayerStatistics:
    """Statistics of an attention layer over all its calls.

    Parameters
    ----------
    calls : int
        Calls of the attention.
    rows : int
        Query rows of all heads that saw a key.
    streamed, survivors : int
        Keys streamed to all jobs, and those of them whose values were fetched.
    saturated : int
        Pairs of row and key, not masked, whose logit saturated.
    dropped_share : float
        Certified bound of the dropped share of a row's softmax, the worst row's.
    output_error : float
        Certified bound of what dropping changed in an output, in its own units, the worst row's.
    least_tau, most_tau : int
        Smallest and largest threshold that a job used, in units of ``2**-FRACTION_BITS``.
    """

    calls: int = 0
    rows: int = 0
    streamed: int = 0
    survivors: int = 0
    saturated: int = 0
    dropped_share: float = 0.0
    output_error: float = 0.0
    least_tau: int = formats.TAU_KEEP_ALL
    most_tau: int = 0

    @property
    def survivor_share(self) -> float:
        """Share of the streamed keys whose values were fetched; 1 if none was streamed."""
        return self.survivors / self.streamed if self.streamed else 1.0

    @property
    def tau(self) -> str:
        """The thresholds used, in bits, for a table."""
        if not self.streamed:
            return "-"
        unit = 1 << formats.FRACTION_BITS
        taus = (self.least_tau, self.most_tau)
        least, most = ("all" if tau == formats.TAU_KEEP_ALL else f"{tau / unit:g}" for tau in taus)
        return least if least == most else f"{least} to {most}"

    def add(self, parts: Sequence[Attended]) -> None:
        """Add a call of the layer, which the core ran as `parts`."""
        self.merge(
            LayerStatistics(
                calls=1,
                rows=sum(part.total.size for part in parts),
                streamed=sum(int(part.streamed.sum()) for part in parts),
                survivors=sum(int(part.survivors.sum()) for part in parts),
                saturated=sum(int(part.saturated.sum()) for part in parts),
                dropped_share=max((float(part.dropped_share.max()) for part in parts), default=0.0),
                output_error=max((float(part.output_error.max()) for part in parts), default=0.0),
                least_tau=min((int(part.tau.min()) for part in parts), default=formats.TAU_KEEP_ALL),
                most_tau=max((int(part.tau.max()) for part in parts), default=0),
            )
        )

    def merge(self, other: LayerStatistics) -> None:
        """Add what `other` has counted."""
        for name in ("calls", "rows", "streamed", "survivors", "saturated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("dropped_share", "output_error", "most_tau"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.least_tau = min(self.least_tau, other.least_tau)


@dataclass
class Collector:
    """Statistics of the attention layers of a model.

    Parameters
    ----------
    layers : dict of int to LayerStatistics
        By layer, counted from 0 in the order in which they first ran.
    """

    layers: dict[int, LayerStatistics] = field(default_factory=dict)

    def add(self, layer: int, parts: Sequence[Attended]) -> None:
        """Add a call of `layer`, which the core ran as `parts`."""
        self.layers.setdefault(layer, LayerStatistics()).add(parts)

    def reset(self) -> None:
        """Forget all that was counted."""
        self.layers.clear()

    @property
    def total(self) -> LayerStatistics:
        """All layers together."""
        total = LayerStatistics()
        for layer in self.layers.values():
            total.merge(layer)
        return total

    def table(self) -> str:
        """Return a line for each layer and one for all of them, below a header."""
        lines = [
            f"{'layer':>6}{'calls':>8}{'rows':>10}{'streamed':>12}{'survivors':>11}{'saturated':>11}"
            f"{'dropped':>10}{'bound':>10}  tau"
        ]
        for name, layer in [
            *((str(number), self.layers[number]) for number in sorted(self.layers)),
            ("all", self.total),
        ]:
            lines.append(
                f"{name:>6}{layer.calls:8d}{layer.rows:10d}{layer.streamed:12d}{layer.survivor_share:11.1%}"
                f"{layer.saturated:11d}{layer.dropped_share:10.2%}{layer.output_error:10.2e}  {layer.tau}"
            )
        return "\n".join(lines)
