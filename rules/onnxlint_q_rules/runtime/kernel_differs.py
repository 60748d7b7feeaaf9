"""Operators whose integer kernel gives something else than the pairs around them say.

A quantise-dequantise file means what its pairs mean: values are dequantised, computed in float, and rounded again. By
default ONNX Runtime puts an integer kernel in their place. Its sums are exact, so on the same codes it may round to the
next code and no further. More than that is a parameter which the kernel reads in its own way.

Measured here: 300 dB in small files, 45 dB in a MobileNet of eight layers, and 15 to 26 dB in deep ones, where flips of
single codes grow from layer to layer. So the whole file only says where to look: each operator is judged alone, on the
codes that it reads, where a healthy one leaves over 40 dB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    CONFIRM_BELOW_DB,
    Confidence,
    Example,
    Facts,
    Finding,
    Rule,
    Severity,
    Silence,
    whole_model,
)
from onnxlint_q_rules.runtime.said import figures


def _samples(rng: np.random.Generator) -> Mapping[str, npt.NDArray[Any]]:
    return {"x": rng.normal(size=(4, 2)).astype(np.float32)}


def _model(axis: int) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 2] x) => (float[N, 2] y)
<float x_s = {{0.02}}, uint8 x_z = {{128}}, int8[2, 2] w = {{100, 20, -30, 90}}, float[2] w_s = {{0.01, 0.3}},
 int8[2] w_z = {{0, 0}}> {{
  codes = QuantizeLinear (x, x_s, x_z)
  values = DequantizeLinear (codes, x_s, x_z)
  weight = DequantizeLinear <axis = {axis}> (w, w_s, w_z)
  [product] y = MatMul (values, weight)
}}
"""


@dataclass(frozen=True)
class KernelDiffers(Rule):
    """With default options ONNX Runtime computes something else than the file says.

    ## What it does
    Runs a quantised file on a few samples with ONNX Runtime's default options, and with every operator computed as ONNX
    defines it. Where the outputs differ, each operator is run alone on the codes that it reads.

    ## Why it breaks INT8
    The kernel reads a scale or a zero point in another way than the file means it. A measurement with graph
    optimisation off looks fine, and the program gets other values.

    ## What to do
    Write the parameters as kernels read them: one scale for each output of a weight, one for an activation. Measure
    with default options.

    ## Sources
    onnxruntime qdq_actions.cc; run with the installed version.
    """

    code: ClassVar[str] = "QR002"
    name: ClassVar[str] = "kernel-differs"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model(1), samples=_samples, why="The weight has a scale for each output."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _model(0),
            flags=("product",),
            samples=_samples,
            why="The weight has a scale for each input. The kernel takes them for those of the outputs.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding an operator."""
        deployed = facts.deployed
        if deployed is None or not deployed.differing:
            unmet = (
                "the file was not run with default options" if deployed is None else "no operator differs by default"
            )
            yield Silence(whole_model(facts), unmet)
            return
        loud = deployed.sqnr_db is not None and deployed.sqnr_db < CONFIRM_BELOW_DB
        for one in deployed.differing:
            yield self.finding(
                one.location,
                f"The kernel of {one.location.label!r} computes something else than its pairs say: alone it leaves "
                f"{one.sqnr_db:.1f} dB. {figures(deployed, one.location)}",
                remedy="Look at the scales and zero points of this operator, and write them as kernels read them. Or "
                "keep it in float. Measure with default options.",
                metrics={
                    "tensor": one.tensor,
                    "alone_db": one.sqnr_db,
                    "default_to_unoptimised_db": deployed.sqnr_db,
                    "runtime": deployed.version,
                },
                severity=Severity.ERROR if loud else Severity.WARNING,
            )
