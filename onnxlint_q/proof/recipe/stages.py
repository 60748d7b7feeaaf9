"""What is tried after what, before anything gets finer codes.

A stage is tried whole, and the search goes on to the next one only where it is not good enough:

1. everything in int8, with scales from calibration. Where nearly all multiplications are those of matrices, scales that
   each run takes for itself belong here too: ONNX Runtime's integer operators for them take as long. That of a
   convolution does not: it takes several times as long as the float one;
2. layers only, with scales from calibration: what stands between them stays in float. All multiplications of layers
   are still in int8, and a sum or a Softmax in float costs little on a CPU;
3. both again on networks with additional nodes;
4. scales of each run, whatever the layers are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.schemes import Scheme

_FEW_CONVOLUTIONS = 0.1
"""Fraction of the multiplications that convolutions may make up where scales of each run take no longer."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Schemes that are tried side by side, on one of the networks of each."""

    number: int
    schemes: tuple[Scheme, ...]


def stages(networks: Mapping[Scheme, int], *, cheap_dynamic: bool) -> tuple[Stage, ...]:
    """The stages for these schemes, those without a scheme left out.

    Args:
        networks: by scheme, how many networks there are that it may be used on.
        cheap_dynamic: whether scales of each run take no longer than others.
    """
    calibrated = [scheme for scheme in networks if scheme.is_calibrated]
    others = tuple(scheme for scheme in networks if not scheme.is_calibrated)
    early = tuple(scheme for scheme in others if scheme.is_dynamic and cheap_dynamic)
    found: list[Stage] = []
    for number in range(max((networks[scheme] for scheme in calibrated), default=0)):
        for layers_only in (False, True):
            having = [scheme for scheme in calibrated if scheme.layers_only is layers_only]
            having = [scheme for scheme in having if number < networks[scheme]]
            found.append(Stage(number, (*having, *(early if not found else ()))))
    done = early if found else ()
    found.append(Stage(0, tuple(scheme for scheme in others if scheme not in done)))
    return tuple(stage for stage in found if stage.schemes)


def has_few_convolutions(measured: Measured, each: Mapping[str, float]) -> bool:
    """Whether convolutions make up few of the multiplications of all layers, given by their keys."""
    convolved = sum(each.get(layer.output, 0.0) for layer in measured.layers if layer.folded.layer.inputs.convolves)
    return convolved <= _FEW_CONVOLUTIONS * sum(each.values())
