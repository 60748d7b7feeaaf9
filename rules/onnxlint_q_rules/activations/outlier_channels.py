"""Few channels of an activation take nearly all codes of its one scale.

    ratio = (max_c high_c - min_c low_c) / median_c (high_c - low_c),        codes of the median channel = 256 / ratio

Looked for are tensors with `ratio` at 16 or more (four bits lost for the median channel) where a sixteenth of the
channels at most makes three quarters of the range. The ends of each channel are those that a run saw. Without a run
they are those that the forecast expects from the gains, biases and weight rows of the file. In a transformer it is
nearly always the residual stream, or a normalisation with few large gains, and the same channels return in many layers:
tensors that share outlier channels are one finding.

Many outliers do no harm: the quiet channels may carry nothing. What counts is the noise of all tensors of a finding at
the output, each rounded alone,

    sqnr_db = -10 log10(sum_t 10^(-sqnr_db_t / 10)),

as measured, else as forecast. What is under 20 dB by the forecast and makes a tenth of the noise is a warning, what is
under 30 dB an info, which a run confirms or refutes; what was measured is reported where it is under 20 dB or makes a
tenth of the loss.

One scale an output channel of the weights does not help: the activation still has one. Where the tensor is the result
of a normalisation with a gain, and matrix products alone read it, the factor can move into their weights, and the float
model stays what it is.

Sources: Dettmers et al., LLM.int8(), arXiv 2208.07339, section 4; Xiao et al., SmoothQuant, arXiv 2211.10438, eq. 3;
Kovaleva et al., BERT Busters, arXiv 2105.06990 (outlier LayerNorm gains).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    CONFIRM_BELOW_DB,
    INT8_PER_TENSOR,
    UINT8,
    ChannelFactors,
    Claim,
    Confidence,
    Divisors,
    Example,
    Facts,
    Finding,
    Forecast,
    Outliers,
    Refusal,
    Remedy,
    Rescaling,
    Rule,
    Severity,
    Silence,
    Subject,
    TensorCost,
    TensorNoise,
    channels,
    movable_factors,
    option,
    outlier_channels,
    sharing,
)
from onnxlint_q_rules.activations.places import place_of

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
feed_forward (float[N, 6, 32] x) => (float[N, 6, 16] y) {
  [norm] t = LayerNormalization <axis = -1> (x, gain, shift)
  [dense] y = MatMul(t, w)
}
"""


_STREAM = """
<ir_version: 8, opset_import: ["" : 17]>
residual (float[N, 6, 32] x) => (float[N, 6, 32] y) {
  [raise] s = Add(x, offset)
  [norm] t = LayerNormalization <axis = -1> (s, gain, shift)
  [dense] h = MatMul(t, w)
  [skip] r = Add(s, h)
  [lower] y = Sub(r, offset)
}
"""


def _raised(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    offset, weight = np.zeros(32, np.float32), random.normal(scale=0.2, size=(32, 32)).astype(np.float32)
    offset[9], weight[9] = 400.0, 0.0
    return {"offset": offset, "gain": np.ones(32, np.float32), "shift": np.zeros(32, np.float32), "w": weight}


def _heeded(_: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    values = dict(_normalisation(60.0))
    values["w"][5] *= 600
    return values


def _normalisation(gain_of_one: float) -> Mapping[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(0)
    gain, weight = np.ones(32, np.float32), random.normal(scale=0.2, size=(32, 16)).astype(np.float32)
    gain[5] = gain_of_one
    weight[5] /= gain_of_one
    return {"gain": gain, "shift": np.zeros(32, np.float32), "w": weight}


@dataclass(frozen=True)
class OutlierChannels(Rule):
    """A few channels of an activation are far wider than all others.

    ## What it does
    Compares the range of each activation with that of its median channel, and weighs what rounding it costs the output.
    Tensors with the same outlier channels are one finding, as in the residual stream of a transformer.

    ## Why it breaks INT8
    All channels of an activation share one scale. The widest channels set it, and the others keep a few codes. One
    scale an output channel of the weights does not change that.

    ## What to do
    If a normalisation makes the tensor and matrix products read it, divide the channels there and multiply the rows of
    the next weights: the float model stays the same. `--calibrate` tries it and says what it gains. Else leave the
    nodes around the tensor in float, or keep it in 16 bits.

    ## Sources
    LLM.int8(), arXiv 2208.07339; SmoothQuant, arXiv 2211.10438.
    """

    code: ClassVar[str] = "QA005"
    name: ClassVar[str] = "outlier-channels"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    supersedes: ClassVar[tuple[str, ...]] = ("QA001", "QA002", "QA004")
    rewrites: ClassVar[tuple[str, ...]] = ("channel-factors",)

    ratio: float = option(
        16.0, doc="range of the tensor over that of its median channel", source="four bits lost for the median channel"
    )
    warn_below_db: float = option(
        CONFIRM_BELOW_DB,
        doc="SQNR at the output (dB), only these tensors rounded, below which a finding is a warning, above it an info",
        source="noise of 10 % of the signal, the level where layers are excluded",
    )
    share: float = option(
        0.1,
        doc="fraction of the forecast noise below which a finding is an info",
        source="without a tenth of the noise half a decibel more is left",
    )
    drop_above_db: float = option(
        30.0,
        doc="forecast SQNR at the output (dB), only these tensors rounded, from which nothing is reported",
        source="noise of 3 % of the signal, ten decibels from the level where layers are excluded",
    )

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, weights=lambda _: _normalisation(1.0), why="All channels have one range."),
        Example(_NETWORK, weights=_heeded, why="The output is made of the wide channel, which is well resolved."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _NETWORK,
            flags=("norm",),
            weights=lambda _: _normalisation(60.0),
            why="The gain of one channel is 60, and the others keep about four codes each.",
        ),
        Example(
            _STREAM,
            flags=("raise",),
            weights=_raised,
            why="One channel of the residual stream is far away in all that is added to it: one fault.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each activation of a float model whose channels are known."""
        if not facts.is_float:
            return
        found: dict[str, Outliers] = {}
        for place in facts.placements:
            seen = facts.channels_of(place.tensor)
            if place.constant or place.moved or seen is None:
                continue
            outliers = outlier_channels(seen, self.ratio)
            if outliers is not None:
                found[place.tensor] = outliers
            else:
                unmet = f"no few channels make its range {self.ratio:g} times that of the median channel"
                yield Silence(place_of(facts, place.tensor), unmet)
        for tensors in sharing(found):
            yield self._judged(facts, {tensor: found[tensor] for tensor in tensors})

    def _judged(self, facts: Facts, found: Mapping[str, Outliers]) -> Finding | Silence:
        """What the tensors of one fault cost decides what is said of it."""
        scheme = _scheme(facts)
        costs, forecast = facts.costs.get(scheme), _forecast(facts, scheme)
        if costs is not None:
            alone = [(row.sqnr_db, costs.share(row)) for row in costs.tensors if _is_one(row, found)]
            limit = max(self.warn_below_db, costs.matters_db)
        else:
            rows = forecast.tensors if forecast is not None else ()
            alone = [
                (math.inf if row.sqnr_db is None else row.sqnr_db, row.share) for row in rows if _is_one(row, found)
            ]
            limit = self.drop_above_db
        if not alone:
            return self._finding(facts, found, scheme, Severity.INFO, None)
        alone_db, share = _together(left for left, _ in alone), sum(part for _, part in alone)
        if alone_db >= limit:
            told = f"its tensors alone leave {alone_db:.1f} dB at the output, not under {limit:.1f}"
            return Silence(place_of(facts, next(iter(found))), told)
        harmful = costs is not None or (alone_db < self.warn_below_db and share >= self.share)
        severity = Severity.WARNING if harmful else Severity.INFO
        return self._finding(facts, found, scheme, severity, alone_db if costs is None else None)

    def _finding(
        self, facts: Facts, found: Mapping[str, Outliers], scheme: str, severity: Severity, forecast_db: float | None
    ) -> Finding:
        first, *others = found
        # What is said of several tensors is that of the worst.
        worst = max(found.values(), key=lambda outliers: outliers.ratio)
        count = UINT8.largest - UINT8.lowest + 1
        kept = count / worst.ratio
        wide = Counter(channel for outliers in found.values() for channel in outliers.channels)
        listed = [channel for channel, _ in wide.most_common()]
        more = f" and {len(others)} more" if others else ""
        return self.finding(
            place_of(facts, first),
            f"{channels(listed)} set{'s' * (len(listed) == 1)} the scale of {first!r}{more}: a typical channel keeps "
            f"{kept:.1f} of {count:.0f} codes.",
            severity=severity,
            metrics={
                "range_over_median": worst.ratio,
                "median_codes": kept,
                "range_over_others": worst.relief,
                "channels": ", ".join(map(str, listed)),
                "tensors": len(found),
                **({} if forecast_db is None else {"forecast_db": forecast_db}),
            },
            remedy=_remedy(facts, found),
            claim=Claim(Subject.ACTIVATION, first, scheme, more=tuple(others), all_ranges=True),
            places=[place_of(facts, tensor) for tensor in others],
        )


def _scheme(facts: Facts) -> str:
    """The scheme that the claim is about: of those with 8-bit codes, one that the model does not survive."""
    names = [scheme.name for scheme in facts.schemes if scheme.activations == UINT8]
    return next((name for name in names if name in facts.costs), next(iter(names), INT8_PER_TENSOR.name))


def _forecast(facts: Facts, scheme: str) -> Forecast | None:
    """Of the network without what its masks do, which would hide everything else."""
    unmasked = facts.unmasked.forecasts if facts.unmasked is not None else {}
    return unmasked.get(scheme, facts.forecasts.get(scheme))


def _is_one(row: TensorCost | TensorNoise, found: Mapping[str, Outliers]) -> bool:
    return row.kind is Subject.ACTIVATION and row.tensor in found


def _together(alone_db: Iterable[float]) -> float:
    """What tensors leave together (dB), each alone as given."""
    noise = sum(10 ** (-left / 10) for left in alone_db)
    return -10 * math.log10(noise) if noise > 0 else math.inf


def _remedy(facts: Facts, found: Mapping[str, Outliers]) -> Remedy:
    """To move the factors where that can be done, else to spare the tensors."""
    freed = [facts.freer.activation(tensor) for tensor in found]
    # The call is one of the static quantiser.
    told = facts.calibrated_schemes and not any(entry.unnamed for entry in freed)
    exclude = () if not told else facts.freer.names(node for entry in freed for node in entry.nodes)
    spare = "Leave these nodes in float." if exclude else "Keep these tensors in float, or in 16 bits."
    moved, reasons = list[ChannelFactors](), list[str]()
    for tensor, outliers in found.items():
        seen = facts.channels_of(tensor)
        assert seen is not None
        one = movable_factors(facts, tensor, outliers.channels, seen)
        if isinstance(one, Refusal):
            reasons.append(one.reason)
        else:
            moved.append(one)
    if not moved:
        return Remedy(f"{spare} The factors cannot move into the next weights: {reasons[0]}.", nodes_to_exclude=exclude)
    return Remedy(
        _moving(facts, moved),
        spare,
        Rescaling(tuple(Divisors(one.tensor, one.channels, one.factors) for one in moved)),
        nodes_to_exclude=exclude,
    )


def _moving(facts: Facts, moved: Sequence[ChannelFactors]) -> str:
    first, *others = moved
    gains = " and ".join(dict.fromkeys(repr(_named(facts, output)) for output, _ in first.gains))
    readers = " and ".join(repr(_named(facts, key)) for key in first.readers)
    divisors = ", ".join(f"{factor:g}" for factor in first.factors)
    more = f" Do the same for {len(others)} more tensor{'s' * (len(others) > 1)}." if others else ""
    return (
        f"Divide {channels(first.channels)} of the gain of {gains} by {divisors}, and multiply the same rows of the "
        f"weight of {readers}: the float model stays the same.{more}"
    )


def _named(facts: Facts, output: str) -> str:
    node = facts.model.producer(output)
    return node.label if node is not None else output
