"""Files whose opset has no per-channel scale.

QuantizeLinear and DequantizeLinear came with opset 10 with one scale for the tensor; their `axis` attribute, and with
it one scale a channel, came with opset 13. Below it ONNX Runtime 1.31's `quantize_static(per_channel=True)` writes the
attribute anyway, and the file does not load. Other tools fall back to one scale for the tensor, with a line in their
log.

A network that survives one scale a tensor does not need the others, so it is only told. It needs them where it loses
too much under int8-per-tensor and has more than 1 dB more under int8-per-channel: as measured on data, or without data
as forecast.
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
    Silence,
    option,
    whole_model,
)
from onnxlint_q_rules.finer_scales import needs_channels

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
    Compares the opset of a model that has layers with 13, where per-channel scales came, and with 10, where quantised
    tensors came. It is a warning where the network needs per-channel scales: where int8-per-tensor is not enough and
    int8-per-channel is better. It is also one below opset 10. Everywhere else it is an info.

    ## Why it breaks INT8
    One scale a channel is the first remedy for most weights, and the file cannot hold it. ONNX Runtime's quantiser then
    writes a model that does not load. Other quantisers silently use one scale for the tensor.

    ## What to do
    Export the model again at opset 13 or higher; 17 is a good choice. `onnx.version_converter` is the second choice,
    because it mistranslates some Resize nodes. `--probe` and `--calibrate` convert the model, run it, and print the
    call if its outputs stay the same.

    ## Sources
    ONNX operator specification, DequantizeLinear-10 and -13; intel/neural-compressor#819; onnxruntime 1.31.1,
    quantize_static.
    """

    code: ClassVar[str] = "QG001"
    name: ClassVar[str] = "opset-blocks-per-channel"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("opset",)

    gain_db: float = option(
        1.0, doc="one scale a channel is needed if it brings so many dB more", source="nobody would notice less"
    )

    good: ClassVar[tuple[Example, ...]] = (Example(_network(13), why="DequantizeLinear-13 has an axis."),)
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_network(11), flags=("x",), why="DequantizeLinear-10 has one scale for the tensor only."),
        Example(_network(9), flags=("x",), why="There is no QuantizeLinear before opset 10."),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model."""
        opset = facts.model.opset
        wanted = any(scheme.needs_opset(_ANY) for scheme in facts.schemes)
        needed = PER_CHANNEL_OPSET if wanted else _ANY
        if opset >= needed:
            yield Silence(whole_model(facts), f"opset {opset} is not under {needed}")
            return
        if not facts.layers or facts.format not in {Format.FLOAT, Format.QDQ}:
            yield Silence(whole_model(facts), f"it is a {facts.format} model with {len(facts.layers)} layers")
            return
        needs = facts.is_float and (opset < _ANY or needs_channels(facts, self.gain_db))
        lack = "cannot store one scale per channel"
        if opset < _ANY:
            lack = "cannot store quantised tensors"
        elif needs:
            lack = "cannot store one scale per channel, which this network needs"
        yield self.finding(
            whole_model(facts),
            f"Opset {opset} {lack}; opset {needed} can.",
            remedy=_remedy(is_float=facts.is_float),
            metrics={"opset": opset, "needed_opset": needed, "layers": len(facts.layers)},
            severity=Severity.WARNING if needs else Severity.INFO,
        )


def _remedy(*, is_float: bool) -> Remedy:
    """A quantised file is not what is to be converted."""
    again = "Export the float model again from its framework at opset 13 or higher"
    as_it_is = "As it is, the file that quantize_static(per_channel=True) writes does not load."
    if not is_float:
        return Remedy(
            "Quantise a float model of opset 13 or higher. If yours is older, export it again from its framework."
        )
    return Remedy(
        f"{again}. {as_it_is} If you cannot export it, convert it.",
        f"{again}. {as_it_is}",
        Conversion(_TARGET),
    )
