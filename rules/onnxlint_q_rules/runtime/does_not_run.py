"""Files that ONNX Runtime does not load, or that fail in every run, with the options that a program has by default.

By default an integer kernel takes the place of an operator between quantise-dequantise pairs. ONNX allows parameters
that a kernel does not take, such as one scale a channel of an activation: the file is valid, its checker passes, and
with graph optimisation off it runs. Under `--calibrate` and `--probe` the file is run once as a program would run it.

Sources: onnxruntime conv_integer.cc, qlinearconv.cc; run here with the installed version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    Breach,
    Confidence,
    Consequence,
    Deployed,
    Example,
    Facts,
    Finding,
    Location,
    Refused,
    Rule,
    Severity,
    Silence,
    Use,
    breaches,
    read_target,
    whole_model,
)
from onnxlint_q_rules.runtime.said import reason, tensor_of


def _samples(rng: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
    return {"x": rng.normal(size=(4, 2, 2, 2)).astype(np.float32)}


def _pairs(scales: str, zero_points: str) -> str:
    count = len(scales.split(","))
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 2, 2, 2] x) => (float[N, 1, 2, 2] y)
<float[{count}] x_s = {{{scales}}}, uint8[{count}] x_z = {{{zero_points}}}, int8[1, 2, 1, 1] w = {{100, -30}},
 float w_s = {{0.01}}, int8 w_z = {{0}}, float y_s = {{0.05}}, uint8 y_z = {{128}}> {{
  codes = QuantizeLinear <axis = 1> (x, x_s, x_z)
  values = DequantizeLinear <axis = 1> (codes, x_s, x_z)
  weight = DequantizeLinear (w, w_s, w_z)
  [conv] result = Conv (values, weight)
  rounded = QuantizeLinear (result, y_s, y_z)
  y = DequantizeLinear (rounded, y_s, y_z)
}}
"""


_DYNAMIC = """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 2, 2, 2] x) => (int32[N, 2, 2, 2] y)
<int8[2, 2, 1, 1] w = {100, -30, 20, 50}, int8[2] w_z = {0, 0}> {
  codes, scale, zero = DynamicQuantizeLinear (x)
  [conv] y = ConvInteger (codes, w, zero, w_z)
}
"""


@dataclass(frozen=True)
class DoesNotRun(Rule):
    """ONNX Runtime does not load the quantised file, or fails in every run, with its default options.

    ## What it does
    Loads a quantised file with ONNX Runtime's default options and runs it on a few samples, beside a run in which every
    operator is computed as ONNX defines it.

    ## Why it breaks INT8
    A valid file may hold parameters that an integer kernel does not take. A measurement with graph optimisation off
    does not show it. The program that loads the file fails.

    ## What to do
    Change what the message names: mostly one scale or one zero point where the file has several. Then quantise again.

    ## Sources
    onnxruntime conv_integer.cc, qlinearconv.cc, matmul_integer_base.h; run with the installed version.
    """

    code: ClassVar[str] = "QR001"
    name: ClassVar[str] = "does-not-run"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    good: ClassVar[tuple[Example, ...]] = (
        Example(_pairs("0.02", "128"), samples=_samples, why="The input of the convolution has one scale."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _pairs("0.02, 0.03", "128, 128"),
            flags=("conv",),
            samples=_samples,
            why="The kernel takes one scale for its input; with graph optimisation off the file runs.",
        ),
        Example(
            _DYNAMIC,
            flags=("conv",),
            samples=_samples,
            why="ConvInteger takes one zero point for its weight, though ONNX allows one for each output.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding: the first operator that stops a run hides the others."""
        deployed = facts.deployed
        if deployed is None or deployed.refused is None:
            unmet = "the file was not run with default options" if deployed is None else "it runs with default options"
            yield Silence(whole_model(facts), unmet)
            return
        refused = deployed.refused
        uses = tuple(use for use in facts.uses if _multiplies(use) and facts.model.locate(use.node) == refused.location)
        if refused.loads and not refused.plainly and not uses:
            yield Silence(whole_model(facts), "every run fails, but not at a product of codes: the data may be why")
            return
        breach = _known(facts, refused.location)
        yield self.finding(
            refused.location if refused.location.op_type else whole_model(facts),
            " ".join(filter(None, (_message(facts, deployed, refused, breach, uses), _plainly(refused)))),
            remedy=breach.fact.remedy
            if breach is not None
            else "Load the file in ONNX Runtime to see the whole message. Quantise again without what it names.",
            metrics={
                "reason": refused.reason,
                "loads": refused.loads,
                "runs_unoptimised": refused.plainly,
                "runtime": deployed.version,
            },
        )


def _multiplies(use: Use) -> bool:
    """Whether an operator computes with codes; one that looks values up may fail for its data."""
    return use.node.operator.layer is not None or use.node.operator.codes is not None


def _known(facts: Facts, location: Location) -> Breach | None:
    """The fact that explains the failure, where there is one."""
    fatal = {Consequence.REFUSED, Consequence.FAILS}
    found = breaches(read_target("ort-cpu"), facts.model, facts.uses)
    there = (b for b in found if b.fact.consequence in fatal and b.fact.holds)
    return next((b for b in there if _at(facts, b, location) is not None), None)


def _at(facts: Facts, breach: Breach, location: Location) -> Use | None:
    return next((use for use in breach.uses if facts.model.locate(use.node) == location), None)


def _message(facts: Facts, deployed: Deployed, refused: Refused, breach: Breach | None, uses: tuple[Use, ...]) -> str:
    runtime, label = f"ONNX Runtime {deployed.version}", refused.location.label
    said = refused.reason.rstrip(".")
    use = _at(facts, breach, refused.location) if breach is not None else None
    if breach is not None and use is not None:
        said = reason(breach, facts, use)
    elif uses:
        said = f"it has {tensor_of(uses[0])!r}, and: {said}"
    if refused.location.op_type:
        if refused.loads:
            return f"{label!r} fails in every run of {runtime} with default options: {said}."
        return f"{label!r} keeps {runtime} from loading the file: {said}."
    return f"{runtime} {'runs no sample' if refused.loads else 'does not load the file'}: {said}."


def _plainly(refused: Refused) -> str:
    return "With graph optimisation off it runs." if refused.plainly else ""
