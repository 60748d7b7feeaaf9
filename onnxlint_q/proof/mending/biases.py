"""The trial of shifted biases: measured on samples that ranges come from, judged on others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.execute.correction.bias_shift import measure_shifts
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.proof.gain import Gain
from onnxlint_q.rewrite.bias_correction import Shifts, corrected


@dataclass(frozen=True, eq=False)
class Correction:
    """What shifted biases do for one experiment.

    Attributes:
        bench: the network that is to be quantised: with the shifts where they are kept, else as it was. Its float
            outputs are not those of the model then; compare with those of the bench that was given.
        shifts: by layer, one value a channel; empty where none is kept.
        gain: the error without and with them, beside the float outputs of the bench that was given; None where there
            was nothing to try, or nothing can be compared.
        reason: why none is kept, half a sentence for the user; empty where some are.
    """

    bench: Workbench
    shifts: Shifts = field(default_factory=dict)
    gain: Gain | None = None
    reason: str = ""


def correct_biases(bench: Workbench, experiment: Experiment, split: Split, progress: Progress = silent) -> Correction:
    """Shift the biases of all layers that an experiment quantises, if that makes the outputs better.

    Args:
        bench: the float network, calibrated, with all rewrites made.
        experiment: what will be written: the shifts are for it alone.
        split: samples that the shifts are measured on, and others that decide.
        progress: told what is being done.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the experiment.
        DataError: a sample cannot be read.
    """
    try:
        shifts = measure_shifts(bench, experiment, split.for_fitting, progress)
    except NotRunnableError as error:
        return Correction(bench, reason=f"the network does not run layer by layer: {error}")
    if not shifts:
        return Correction(bench, reason="no layer has a mean error beyond chance")
    changed = workbench(measure(corrected(bench.measured, shifts), bench.measured.schemes), bench.limits)
    shifted = replace(bench, measured=changed.measured, float_model=changed.float_model, outputs=changed.outputs)
    variants = {one: (lambda own=own: own.executable(experiment)) for one, own in ((False, bench), (True, shifted))}
    errors = run_variants(bench, variants, split.for_decision, progress)
    gain = Gain.of(errors[False], errors[True])
    if gain is None or gain.db <= 0:
        return Correction(bench, gain=gain, reason="the outputs do not get better by it")
    return Correction(shifted, shifts, gain)
