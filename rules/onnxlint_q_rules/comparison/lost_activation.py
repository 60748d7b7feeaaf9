"""Activation functions that the quantised file has no more.

A quantiser takes a Relu or Clip out where the codes of the result end where the function ends: with the lower end of
the range at 0, rounding to codes is the Relu. With a symmetric range the zero point is 0, the codes go on below, and
nothing clips what the Relu did:

    scale * (lowest code - zero point) < 0

Such a place is reported where its values are off. Any other activation that stands in the float file between two paired
operators, and in the quantised one does not, is reported as well.

Source: `removable_activation` of onnxruntime's quantiser, which keeps the Relu under symmetric activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import Compared, ComparedRow, Example, Facts, Finding, MissingActivation, Silence
from onnxlint_q_rules.comparison.jumps import JumpRule, decibel

# Further ones that are named.
_FEW = 4

_FLOAT = """
<ir_version: 8, opset_import: ["" : 13]>
rectified (float[1, 4] x) => (float[1, 4] y)
<float[4, 4] w = {1, 0, 0, 1, 0, -1, 0.5, 0, -1, 0, 1, 0, 0, 1, 0, -1}> {
  c = MatMul(x, w)
  [relu] y = Relu(c)
}
"""


def _quantised(zero_point: int) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 13]>
rectified (float[1, 4] x) => (float[1, 4] y)
<float[4, 4] w = {{1, 0, 0, 1, 0, -1, 0.5, 0, -1, 0, 1, 0, 0, 1, 0, -1}}, float s = {{0.05}},
 int8 z = {{{zero_point}}}> {{
  [product] c = MatMul(x, w)
  q = QuantizeLinear(c, s, z)
  y = DequantizeLinear(q, s, z)
}}
"""


def _normal(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(16, 4)).astype(np.float32)}


@dataclass(frozen=True)
class LostActivation(JumpRule):
    """An activation function of the float model is not in the quantised file.

    ## What it does
    Looks for Relus and Clips that are gone although the codes go on beyond where they end, and for other activations
    that are gone. Reports each place where the values are off.

    ## Why it breaks INT8
    What the activation kept out goes on through the network. Each further one that is missing adds to it.

    ## What to do
    Keep the activation in the file. Or quantise its result with an asymmetric range that ends where the function ends.

    ## Sources
    onnxruntime's quantiser, which takes out a Relu under asymmetric activations only.
    """

    code: ClassVar[str] = "QC007"
    name: ClassVar[str] = "lost-activation"

    good: ClassVar[tuple[Example, ...]] = (
        Example(_quantised(-128), reference=_FLOAT, samples=_normal, why="The lowest code is 0, which is the Relu."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _quantised(0),
            reference=_FLOAT,
            samples=_normal,
            flags=("product",),
            why="The range is symmetric, so that values below 0 stay.",
        ),
    )

    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
        """Each activation that is gone, where it is missed; the first one names the others."""
        found: list[Finding] = []
        gone: list[str] = []
        for row in compared.rows:
            for missing in row.missing:
                seen = self._missed(compared, row)
                if seen is None:
                    yield Silence(row.location, f"{missing.op_type} is gone, but the values are as in the float file")
                else:
                    found.append(self._report(compared, row, missing, seen))
                    gone.append(f"{missing.op_type} {missing.node!r} ({row.quantized!r})")
        for number, finding in enumerate(found):
            further = gone[:number] + gone[number + 1 :]
            more = f" and {len(further) - _FEW} more" if len(further) > _FEW else ""
            yield replace(finding, causes=(f"Gone too: {', '.join(further[:_FEW])}{more}.",) if further else ())

    def _report(self, compared: Compared, row: ComparedRow, missing: MissingActivation, seen: ComparedRow) -> Finding:
        goes_on = f", and {_goes_on(row, missing)}" if missing.clips else f" behind {row.quantized!r}"
        what = f"{missing.op_type} {missing.node!r} is gone{goes_on}"
        return self.report(
            compared,
            row,
            row.location,
            what,
            part="activation",
            tensor=row.quantized,
            alone_db=None,
            shown_at=seen,
            lasting=f"{what}: {decibel(seen.sqnr_db)} are left",
            metrics={
                "activation": missing.node,
                "zero_point": missing.zero_point,
                "quantised_low": missing.stored_low if missing.zero_point is not None else None,
            },
            remedy=f"Keep the {missing.op_type} in the file."
            + (" Or give its result an asymmetric range that ends where it ends." if missing.clips else ""),
        )

    def _missed(self, compared: Compared, row: ComparedRow) -> ComparedRow | None:
        """The first row, of it and its readers, that has little left."""
        rows = (row, *compared.readers(row))
        return next((one for one in rows if one.sqnr_db is not None and one.sqnr_db < self.bad_db), None)


def _goes_on(row: ComparedRow, missing: MissingActivation) -> str:
    if missing.zero_point is None:
        return f"nothing clips {row.quantized!r}"
    if missing.stored_low < missing.low:
        return f"{row.quantized!r} goes down to {missing.stored_low:.3g} (zero point {missing.zero_point})"
    return f"{row.quantized!r} goes up to {missing.stored_high:.3g} (zero point {missing.zero_point})"
