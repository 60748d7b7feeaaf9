"""The quantised file of a pair as it runs with ONNX Runtime's default options, against the float model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnxlint_q.analysis.observed.deployed import AgainstFloat, Deployed
from onnxlint_q.analysis.pairing.match import Pairing
from onnxlint_q.errors import ModelError
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.deployment.run import SAMPLES, run_as_deployed
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.readout import fed
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.proof.comparison.run_both import output_error


@dataclass(frozen=True, slots=True, eq=False)
class DeployedPair:
    """What the default run of the quantised file showed.

    Attributes:
        deployed: beside its plain run; both against the float model, where they differ.
        output: what the default run leaves at the outputs; None where it differs from the plain one by rounding alone.
    """

    deployed: Deployed
    output: OutputError | None = None


def check_deployed(pairing: Pairing, source: Source, limits: Limits = DEFAULT_LIMITS) -> Deployed:
    """Run the quantised file with default options on a few samples.

    Raises:
        ModelError: it does not load, or no run succeeds; with ONNX Runtime's reason.
        DataError: a sample cannot be read or does not fit.
    """
    model = pairing.quantized.model
    samples = source.take(pairing.reference.model.inputs, SAMPLES)
    deployed = run_as_deployed(model, [fed(model, pairing.inputs, sample) for sample in samples], limits)
    refused = deployed.refused
    if refused is not None:
        how = ""
        if refused.plainly:
            at = f" at {refused.location.label!r}" if refused.location.op_type else ""
            how = f" with default options{at}, though it can with graph optimisation off"
        cannot = "run" if refused.loads else "load"
        raise ModelError(f"{model.name}: ONNX Runtime cannot {cannot} it{how}: {refused.reason}")
    return deployed


def compare_deployed(
    pairing: Pairing,
    deployed: Deployed,
    plain: OutputError,
    source: Source,
    count: int,
    limits: Limits = DEFAULT_LIMITS,
) -> DeployedPair:
    """The default run against the float model, on the samples of the plain one; run only where the two differ.

    Args:
        pairing: of the two files.
        deployed: what a few samples showed.
        plain: what the plain run leaves at the outputs.
        source: where samples come from.
        count: how many to take, at most.
        limits: of the runs.

    Raises:
        ModelError: a run fails.
        DataError: a sample cannot be read or does not fit.
    """
    if not deployed.differing:
        return DeployedPair(deployed)
    output = output_error(pairing, source, count, limits, deployed=True)
    both = AgainstFloat(output.worst_db, plain.worst_db)
    return DeployedPair(replace(deployed, against_float=both), output)
