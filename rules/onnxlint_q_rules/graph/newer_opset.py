"""Files written for a newer ONNX than the one installed.

The meaning of an operator belongs to its opset. With an opset that the installed onnx package does not know, shape
inference stops early and a changed operator would be read as the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx

from onnxlint_q import Confidence, Example, Facts, Finding, Rule, Severity, Silence, whole_model


@dataclass(frozen=True)
class NewerOpset(Rule):
    """The model's opset is newer than the installed onnx package.

    ## What it does
    Compares the model's opset with the newest one that the installed onnx package knows
    (`onnx.defs.onnx_opset_version()`).

    ## Why it breaks INT8
    It does not, but it breaks the check. Operators may have changed in the newer opset, so no other finding and no
    verdict can be trusted.

    ## What to do
    Upgrade the onnx package, and ONNX Runtime for calibration. Or export the model at an older opset.

    ## Sources
    ONNX specification, versioning.
    """

    code: ClassVar[str] = "QG004"
    name: ClassVar[str] = "newer-opset"
    severity: ClassVar[Severity] = Severity.ERROR
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4] x) => (float[N, 4] y) {
  [relu] y = Relu(x)
}
""",
            why="Opset 17 is known to every onnx package that this tool runs on.",
        ),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            """
<ir_version: 8, opset_import: ["" : 1000]>
small (float[N, 4] x) => (float[N, 4] y) {
  [relu] y = Relu(x)
}
""",
            flags=("x",),
            why="There is no opset 1000 yet.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model."""
        opset, known = facts.model.opset, onnx.defs.onnx_opset_version()
        if opset <= known:
            yield Silence(whole_model(facts), f"opset {opset} is not newer than {known}")
            return
        yield self.finding(
            whole_model(facts),
            f"The model uses opset {opset}, but the installed onnx {onnx.__version__} knows up to {known} only.",
            remedy=f"Upgrade the onnx package, or export the model at opset {known} or lower. Until then all other "
            "findings may be wrong.",
            snippet="pip install --upgrade onnx onnxruntime",
            metrics={"opset": opset, "known_opset": known},
        )
