"""Inputs without content: blank samples, colours that are missing, inputs that never change.

A tensor that only depends on a constant input has one value. Its min-max range has no width, so other values in use
are clipped. The usual case is the state that a recurrent network starts from: it is zero in every sample, but not from
the second step on.

Source: arithmetic of the min-max observer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Confidence, DataSummary, Example, Facts, Finding, InputSummary, Rule, Severity, Silence
from onnxlint_q_rules.data.pictures import at_input, named, pictures

_NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
colours (float[N, 3, 32, 32] x) => (float[N, 3, 32, 32] y)
<float[3, 3, 1, 1] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}> {
  y = Conv(x, w)
}
"""
_RECURRENT = """
<ir_version: 8, opset_import: ["" : 17]>
step (float[1, 4] x, float[1, 4] state) => (float[1, 4] y)
<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}> {
  p = MatMul(x, w)
  q = MatMul(state, w)
  y = Add(p, q)
}
"""
# A colour whose values spread less than this part of the others' is missing.
_FLAT = 1e-3


def _coloured(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": pictures(random, 8)}


def _blank(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    images = pictures(random, 8)
    images[5] = 0
    return {"x": images}


def _no_blue(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    images = pictures(random, 8)
    images[:, 2] = 0
    return {"x": images}


def _zero_state(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(8, 4)).astype(np.float32), "state": np.zeros((8, 4), np.float32)}


def _state(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {name: random.normal(size=(8, 4)).astype(np.float32) for name in ("x", "state")}


@dataclass(frozen=True)
class ConstantInput(Rule):
    """Calibration data without content.

    ## What it does
    Finds samples that hold a single value, colour channels that never change, and inputs that are the same in every
    sample while others are not.

    ## Why it breaks INT8
    An input that does not vary gives no range, so other values in use are clipped.

    ## What to do
    Remove blank samples and check the preprocessing. Record states and other side inputs from real runs.

    ## Sources
    Arithmetic of the min-max observer.
    """

    code: ClassVar[str] = "QD004"
    name: ClassVar[str] = "constant-input"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    good: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, samples=_coloured, why="The pictures have content in every colour."),
        Example(_RECURRENT, samples=_state, why="The states are as a run would leave them."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_NETWORK, flags=("x",), samples=_blank, why="One picture is black."),
        Example(_NETWORK, flags=("x",), samples=_no_blue, why="No picture has any blue."),
        Example(_RECURRENT, flags=("state",), samples=_zero_state, why="The state is zero in every sample."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Each input."""
        data = facts.data
        if data is None:
            return
        for name, seen in data.inputs.items():
            alone = len(data.inputs) == 1
            # Masks, lengths and rates are often the same in every sample, and rightly.
            if seen.size < 2 or not (seen.floating or alone):
                yield Silence(at_input(name), "it holds one value a sample, or whole numbers beside other inputs")
                continue
            if len(seen.constant) == data.samples and alone:
                yield self._empty(name, seen, data)
            elif seen.unchanging and data.samples > 1 and not alone:
                yield self._unchanging(name, seen, data)
            elif seen.constant:
                yield self._blank(name, seen, data)
            else:
                yield self._colours(name, seen)

    def _empty(self, name: str, seen: InputSummary, data: DataSummary) -> Finding:
        return self.finding(
            at_input(name),
            f"All {data.samples} samples of {name!r} hold a single value: there is nothing to calibrate on",
            metrics={"constant_samples": data.samples, "low": seen.low, "high": seen.high},
            remedy="Check the preprocessing: it leaves nothing of the data.",
        )

    def _unchanging(self, name: str, seen: InputSummary, data: DataSummary) -> Finding:
        what = f"is {seen.low:g}" if seen.low == seen.high else "is the same"
        return self.finding(
            at_input(name),
            f"{name!r} {what} in all {data.samples} samples, so ranges behind it hold for this one case only",
            severity=Severity.INFO,
            metrics={"samples": data.samples, "low": seen.low, "high": seen.high},
            remedy=(
                "Record this input from real runs, a state for example from a later step. Ignore this if it never "
                "changes in use."
            ),
        )

    def _blank(self, name: str, seen: InputSummary, data: DataSummary) -> Finding:
        count = len(seen.constant)
        return self.finding(
            at_input(name),
            f"{count} of {data.samples} samples of {name!r} hold{'s' * (count == 1)} a single value throughout",
            severity=Severity.INFO if 2 * count < data.samples else None,
            metrics={"constant_samples": count, "samples": data.samples, "examples": named(data, seen.constant)},
            remedy="Remove these samples if they are blank, and find out why they are.",
        )

    def _colours(self, name: str, seen: InputSummary) -> Finding | Silence:
        if seen.image is None:
            return Silence(
                at_input(name), f"its values run from {seen.low:.3g} to {seen.high:.3g}, and no sample is blank"
            )
        deviation = seen.image.deviation
        flat = np.flatnonzero(deviation <= _FLAT * deviation.max())
        if not flat.size:
            least = float(deviation.min())
            return Silence(
                at_input(name), f"every sample varies, and every channel does: deviation {least:.2g} or more"
            )
        listed = ", ".join(map(str, flat))
        return self.finding(
            at_input(name),
            f"Channel{'s' * (flat.size > 1)} {listed} of {name!r} hardly change{'s' * (flat.size == 1)} in any sample",
            metrics={
                "flat_channels": listed,
                "flat_deviation": float(deviation[flat].max()),
                "largest_deviation": float(deviation.max()),
            },
            remedy="Check decoding and normalisation: a colour is lost on the way.",
        )
