"""Models whose quantised file depends on whether `quant_pre_process` ran before `quantize_static`.

Every figure of this linter is that of the file that ONNX Runtime's quantiser writes after its own preparation, which
folds BatchNormalizations, computes what is constant and resolves branches that are always taken. Who leaves it out, as
nearly every tutorial does and the quantiser only warns of in its log, gets another file:

- a BatchNormalization stays an operator of its own, so that two results are rounded instead of one, and the weight
  before it stays raw. That usually costs a little. Where folding is what ruins a weight, because gains differ by
  hundreds, it saves the network under one scale a tensor;
- a weight behind a Transpose or an Identity becomes an activation, with one scale whatever was asked for;
- a Relu behind a layer is taken away, because the range of its result clips as it does; an If that reads this result
  from within then gets the values before the Relu.

`akiki_vad`, a public voice detector, has 11 dB at its outputs with it and 6 without, for the last of these reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q import (
    SCHEMES,
    Confidence,
    Evidence,
    Example,
    Facts,
    Finding,
    Metric,
    Rule,
    Severity,
    Unprepared,
    option,
    preparation,
    whole_model,
)


def _prepare(path: str) -> str:
    """Lines that write the prepared model beside its file."""
    file = PurePath(path)
    return (
        "import onnx\n"
        "from onnxruntime.quantization.shape_inference import quant_pre_process\n"
        # By path it does not find data that the model keeps in another file.
        f"quant_pre_process(onnx.load({file.name!a}), {f'{file.stem}-prepared{file.suffix}'!a}, "
        "skip_symbolic_shape=True)"
    )


def _network(norm: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
small (float[N, 4, 8, 8] x) => (float[N, 8, 8, 8] y)
<float[8, 4, 1, 1] w = {{0}},
 float[8] gamma = {{0}}, float[8] beta = {{0}}, float[8] mean = {{0}}, float[8] var = {{0}}>
{{
  [conv] z = Conv(x, w)
  {norm}
}}
"""


_FOLDS = _network("[norm] y = BatchNormalization(z, gamma, beta, mean, var)")


def _spread(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    """Gains from 0.01 to 100 on channels that are as large when raw: folded, one scale serves the largest only."""
    gains = np.geomspace(0.01, 100, 8)
    return {
        "w": random.normal(size=(8, 4, 1, 1)).astype(np.float32),
        "gamma": (gains / 100).astype(np.float32),
        "beta": np.zeros(8, np.float32),
        "mean": np.zeros(8, np.float32),
        "var": np.ones(8, np.float32),
    }


def _images(random: np.random.Generator) -> Mapping[str, npt.NDArray[np.float32]]:
    return {"x": random.normal(size=(8, 4, 8, 8)).astype(np.float32)}


@dataclass(frozen=True)
class PreProcessingMatters(Rule):
    """Quantising the model without quant_pre_process gives another result.

    ## What it does
    Where the preparation changes the graph, quantises the model both ways with ONNX Runtime's own `quantize_static`, on
    the same samples, and compares what is left at the output. It runs with `--calibrate` and min-max ranges, for
    int8-per-tensor and int8-per-channel.

    ## Why it breaks INT8
    All figures of this report are those after `quant_pre_process`. The file that is made without it has other tensors
    with scales of their own, other weights, and sometimes an operator less.

    ## What to do
    Do what the finding measured to be better. As a rule: run `quant_pre_process` first and quantise what it writes.
    Where the model is better as it is, that holds for a runtime that does not fold the BatchNormalizations again.

    ## Sources
    onnxruntime 1.32.0, quantization/shape_inference.py, qdq_quantizer.py and operators/activation.py.
    """

    code: ClassVar[str] = "QG006"
    name: ClassVar[str] = "pre-processing-matters"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True

    change_db: float = option(
        1.0,
        doc="smaller changes of the output SQNR (dB) are not told",
        source="two ways to the same file differ by 0.3 dB at most, on all networks at hand",
    )
    warning_db: float = option(3.0, doc="a loss (dB) without it from which this is a warning", source="twice the noise")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_network("[relu] y = Relu(z)"), weights=_spread, samples=_images, why="there is nothing to prepare"),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(_FOLDS, flags=("x",), weights=_spread, samples=_images, why="folding makes gains part of the weight"),
    )

    def check(self, facts: Facts) -> Iterator[Finding]:
        """At most one finding for the model, with the figures of every scheme that changes."""
        changed = [both for both in facts.unprepared if abs(both.lost_db) > self.change_db]
        if not changed:
            return
        worse = [both for both in changed if both.lost_db > 0]
        warns = any(both.lost_db > self.warning_db for both in worse)
        reasons = dict.fromkeys(why for both in changed for why in preparation(facts, SCHEMES[both.scheme]))
        metrics: dict[str, Metric] = {}
        for both in changed:
            metrics |= {f"{both.scheme}_as_it_is_db": both.sqnr_db, f"{both.scheme}_prepared_db": both.prepared_db}
        found = self.finding(
            whole_model(facts),
            "quantised as it is, without quant_pre_process, the model has "
            + " and ".join(map(_figures, changed))
            + f" at the {'worst ' * (len(facts.outputs) > 1)}output: {'; '.join(reasons)}",
            remedy="; ".join(_advice(changed)),
            snippet=_prepare(facts.model.name) if worse else "",
            metrics=metrics,
            severity=None if warns else Severity.INFO,
        )
        yield replace(found, evidence=Evidence.CONFIRMED, measured_db=min(both.sqnr_db for both in changed))


def _figures(both: Unprepared) -> str:
    return f"{both.sqnr_db:.1f} dB instead of {both.prepared_db:.1f} ({both.scheme})"


def _advice(changed: Sequence[Unprepared]) -> Iterator[str]:
    for worse, what in (
        (True, "run quant_pre_process first, and quantise what it writes"),
        (False, "quantise the model as it is, if the runtime does not fold its BatchNormalizations later"),
    ):
        schemes = [both.scheme for both in changed if (both.lost_db > 0) is worse]
        if schemes:
            yield f"for {' and '.join(schemes)} {what}"
