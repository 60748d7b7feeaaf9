"""Files whose opset has no per-channel scale.

QuantizeLinear and DequantizeLinear came with opset 10 with one scale for the tensor; their `axis` attribute, and with
it one scale a channel, came with opset 13. ONNX Runtime 1.31's `quantize_static(per_channel=True)` writes the
attribute all the same below opset 13, and the file it writes cannot be loaded; other tools fall back to one scale for
the tensor with a line in their log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    PER_CHANNEL_OPSET,
    Confidence,
    Conversion,
    Example,
    Facts,
    Finding,
    Format,
    Remedy,
    Rule,
    Severity,
    whole_model,
)

_ANY = 10
_TARGET = 17


def _network(opset: int) -> str:
    return f"""
<ir_version: 7, opset_import: ["" : {opset}]>
small (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 1, 1, 1] w = {{1.0, 2.0}}>
{{
  [conv] y = Conv(x, w)
}}
"""


@dataclass(frozen=True)
class OpsetBlocksPerChannel(Rule):
    """The model's opset is too old for one scale a channel.

    ## What it does
    Compares the version of the default operator domain of a float model that has layers with 13, where per-channel
    scales came, and with 10, where quantised tensors came. For a file with QuantizeLinear pairs it is only an info.

    ## Why it breaks INT8
    Scales for each channel, the first remedy for most weights, cannot be written into the file. Asked for them, ONNX
    Runtime's quantiser writes a model that does not load, and others silently use one scale for the tensor.

    ## What to do
    Export the model again at opset 13 or higher (17 is a good choice). onnx.version_converter is the second choice,
    because it mistranslates some Resize nodes: `--probe` and `--calibrate` convert the model, run it, and print the
    call where its outputs stay the same.

    ## Sources
    ONNX operator specification, DequantizeLinear-10 and -13; intel/neural-compressor#819; onnxruntime 1.31.1,
    quantize_static.
    """

    code: ClassVar[str] = "QG001"
    name: ClassVar[str] = "opset-blocks-per-channel"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH

    good: ClassVar[tuple[Example, ...]] = (Example(_network(13), why="DequantizeLinear-13 has an axis."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_network(11), flags=("x",), why="DequantizeLinear-10 has one scale for the tensor only."),
        Example(_network(9), flags=("x",), why="There is no QuantizeLinear at all."),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """At most one finding for the model."""
        opset = facts.model.opset
        wanted = any(scheme.per_channel for scheme in facts.schemes)
        needed = PER_CHANNEL_OPSET if wanted else _ANY
        if opset >= needed or not facts.layers or facts.format not in {Format.FLOAT, Format.QDQ}:
            return
        lack = (
            "has no scales at all (no QuantizeLinear), so the file cannot be quantised as it is"
            if opset < _ANY
            else f"has no per-channel scales, so each of the {len(facts.layers)} layers gets one scale for its weight"
        )
        yield self.finding(
            whole_model(facts),
            f"Opset {opset} {lack}; opset {needed} has them.",
            remedy=_remedy(is_float=facts.is_float),
            metrics={"opset": opset, "needed_opset": needed, "layers": len(facts.layers)},
            severity=Severity.WARNING if facts.is_float else Severity.INFO,
        )


def _remedy(*, is_float: bool) -> Remedy:
    """A quantised file is not what is to be converted."""
    again = "Export the float model again from its framework at opset 13 or higher"
    as_it_is = "Do not call quantize_static(per_channel=True) on it as it is: the result does not load."
    if not is_float:
        return Remedy(f"{again}, and quantise that.")
    return Remedy(
        f"{again}. {as_it_is} If you cannot export it, convert it.",
        f"{again}. {as_it_is}",
        Conversion(_TARGET),
    )
