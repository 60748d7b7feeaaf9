"""Models whose quantised file depends on whether `quant_pre_process` ran before `quantize_static`.

All figures of this linter are for the file that ONNX Runtime's quantiser writes after `quant_pre_process`. That step
folds BatchNormalizations, computes what is constant and resolves branches that are always taken. Most tutorials leave
it out, and the quantiser only warns in its log. The file is then another one:

- a BatchNormalization stays an operator of its own. Two results are rounded instead of one, and the weight before it
  stays raw. That usually costs a little. Where gains differ by hundreds, it saves the network under one scale a tensor;
- a weight behind a Transpose or an Identity becomes an activation, with one scale even if one a channel was asked for;
- a Relu behind a layer is removed, because the range of its result clips as it does. An If that reads this result from
  within then gets the values before the Relu. For a Loop or Scan `quant_pre_process` changes nothing about that; an
  option of the quantiser keeps the Relu.

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
    KEEPS,
    SCHEMES,
    Confidence,
    Evidence,
    Example,
    Facts,
    Finding,
    Metric,
    Rule,
    Severity,
    Silence,
    Unprepared,
    option,
    preparation,
    removed_for_good,
    whole_model,
)

# Nothing folds into a weight that a caller may replace.
_FIX_WEIGHTS = (
    "weights = {tensor.name for tensor in model.graph.initializer}\n"
    "inputs = [value for value in model.graph.input if value.name not in weights]\n"
    "del model.graph.input[:]\n"
    "model.graph.input.extend(inputs)\n"
)


def _prepare(path: str, *, weights_are_inputs: bool) -> str:
    """Lines that write the prepared model beside its file."""
    file = PurePath(path)
    # By path it does not find data that the model keeps in another file.
    model, first = f"onnx.load({file.name!a})", ""
    if weights_are_inputs:
        model, first = "model", f"model = {model}\n{_FIX_WEIGHTS}"
    return (
        "import onnx\n"
        "from onnxruntime.quantization.shape_inference import quant_pre_process\n"
        f"{first}quant_pre_process({model}, {f'{file.stem}-prepared{file.suffix}'!a}, skip_symbolic_shape=True)"
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
    Quantises the model with and without `quant_pre_process`, where that step changes the graph. Both use ONNX Runtime's
    `quantize_static` on the same samples; the SQNR at the output is compared. It runs with `--calibrate` and min-max
    ranges, for int8-per-tensor and int8-per-channel.

    ## Why it breaks INT8
    All figures of a report hold for the file after `quant_pre_process`. Without it, other tensors get scales, weights
    differ, and sometimes an operator is missing.

    ## What to do
    Do what the finding measured to be better. Usually: run `quant_pre_process` first and quantise the file that it
    writes. Where the model is better without it, the runtime must not fold the BatchNormalizations later. Where a Loop
    or Scan reads what a Relu makes, pass `extra_options={"QDQKeepRemovableActivations": True}` to `quantize_static`.

    ## Sources
    onnxruntime 1.32.0, quantization/shape_inference.py, qdq_quantizer.py and operators/activation.py.
    """

    code: ClassVar[str] = "QG006"
    name: ClassVar[str] = "pre-processing-matters"
    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_calibration: ClassVar[bool] = True
    rewrites: ClassVar[tuple[str, ...]] = ("fold-batch-norms", "stored-weights")

    change_db: float = option(
        1.0,
        doc="smaller changes of the output SQNR (dB) are not told",
        source="two ways to the same file differ by 0.3 dB at most, on all networks at hand",
    )
    warning_db: float = option(3.0, doc="a loss (dB) without it from which this is a warning", source="twice the noise")

    good: ClassVar[tuple[Example, ...]] = (
        Example(_network("[relu] y = Relu(z)"), weights=_spread, samples=_images, why="There is nothing to prepare."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _FOLDS, flags=("x",), weights=_spread, samples=_images, why="Folding makes the gains part of the weight."
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """At most one finding for the model, with the figures of every scheme that changes."""
        changed = [both for both in facts.unprepared if abs(both.lost_db) > self.change_db]
        if not changed:
            most = max((abs(both.lost_db) for both in facts.unprepared), default=None)
            difference = "quantising without quant_pre_process was not tried, or changes nothing"
            if most is not None:
                difference = f"quant_pre_process changes the output by {most:.1f} dB, not more than {self.change_db:g}"
            yield Silence(whole_model(facts), difference)
            return
        worse = [both for both in changed if both.lost_db > 0]
        warns = any(both.lost_db > self.warning_db for both in worse)
        reasons = dict.fromkeys(why for both in changed for why in preparation(facts, SCHEMES[both.scheme]))
        kept = bool(removed_for_good(facts))
        metrics: dict[str, Metric] = {}
        for both in changed:
            metrics |= {f"{both.scheme}_as_it_is_db": both.sqnr_db, f"{both.scheme}_prepared_db": both.prepared_db}
            if both.samples is not None:
                metrics["samples"] = both.samples
        found = self.finding(
            whole_model(facts),
            _message(
                changed, "worst output" if len(facts.outputs) > 1 else "output", KEEPS if kept else "quant_pre_process"
            ),
            remedy=" ".join(_advice(changed, keeps=kept)),
            snippet=_prepare(facts.model.name, weights_are_inputs=facts.folds_late) if worse else "",
            metrics=metrics,
            severity=None if warns else Severity.INFO,
            rewrites=None if worse == changed else (),  # it folds for every scheme
        )
        note = " ".join(f"{why[:1].upper()}{why[1:]}." for why in reasons)
        yield replace(found, evidence=Evidence.CONFIRMED, measured_db=min(both.sqnr_db for both in changed), note=note)


def _message(changed: Sequence[Unprepared], output: str, without: str) -> str:
    first, *others = changed
    more = "".join(f"; {both.scheme} {both.sqnr_db:.1f}, not {both.prepared_db:.1f}" for both in others)
    return (
        f"Without {without} {first.scheme} leaves {first.sqnr_db:.1f} dB at the {output}, not "
        f"{first.prepared_db:.1f}{more}"
    )


def _advice(changed: Sequence[Unprepared], *, keeps: bool) -> Iterator[str]:
    for worse, what in (
        (True, "run quant_pre_process first and quantise the file that it writes"),
        (False, "quantise the model as it is, unless the runtime folds its BatchNormalizations later"),
    ):
        schemes = [both.scheme for both in changed if (both.lost_db > 0) is worse]
        if schemes:
            yield f"For {' and '.join(schemes)} {what}."
    if keeps:
        yield f"Pass extra_options={{'{KEEPS}': True}} to quantize_static: the figures hold for that."
