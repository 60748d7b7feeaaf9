"""A finished network quantised several times, each time with ranges from other images, against its float self."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES, INT8_PER_TENSOR, SCHEMES, Scheme
from onnxlint_q.execute.data.sources import ArraySource
from onnxlint_q.execute.executable import Executable
from onnxlint_q.execute.session import Array, Session
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.comparison.metrics import ClassifierErrorAccumulator, TensorErrorAccumulator

from .digits import Digits
from .networks import INPUT, OUTPUT
from .ranges import kind, layer_name

# The two schemes of every report, and one so coarse that even small networks feel it.
STUDIED = (*DEFAULT_SCHEMES, SCHEMES["int4-weights"])


@dataclass(frozen=True, slots=True)
class OutputTrial:
    """One quantisation of a network: accuracies as fractions, errors of the softmax over the test images."""

    network: str
    scheme: str
    trial: int
    float_accuracy: float
    int8_accuracy: float
    qmse: float
    qce: float
    qkl: float

    @property
    def decrease(self) -> float:
        """Fraction of the float accuracy that is lost."""
        return 1 - self.int8_accuracy / self.float_accuracy


@dataclass(frozen=True, slots=True)
class LayerTrial:
    """Error of one layer's activation in one quantisation, int8 per tensor, all earlier layers quantised too.

    Attributes:
        depth: place in the network, from 1.
        tensor: the activation: what the layer gives behind its rectifier, if it has one.
        qmse, qce, qkl, sqnr_db: over the test images; None where the metric does not exist.
    """

    network: str
    trial: int
    depth: int
    layer: str
    kind: str
    tensor: str
    qmse: float | None
    qce: float | None
    qkl: float | None
    sqnr_db: float | None


def quantised_trials(
    path: Path, network: str, digits: Digits, trials: int, size: int
) -> Iterator[OutputTrial | LayerTrial]:
    """`trials` quantisations under every scheme, ranges from `size` images each; every layer under int8 per tensor."""
    facts = facts_of(read_model(path), STUDIED)
    hidden = hidden_tensors(facts)
    bench = workbench(facts)
    exact = _values(bench.float_model, hidden, digits)
    for trial in range(trials):
        images = digits.calibration(trial, size)
        calibrated = bench.calibrated(observe(facts, ArraySource("digits", {INPUT: images}), len(images)))
        for scheme in facts.schemes:
            values = _values(calibrated.executable(Experiment(scheme)), hidden, digits)
            yield _output_trial(network, scheme, trial, exact[OUTPUT], values[OUTPUT], digits)
            if scheme is INT8_PER_TENSOR:
                yield from _layer_trials(facts, network, trial, hidden, exact, values)


def hidden_tensors(facts: Facts) -> list[str]:
    """The activation of every layer that quantisation rounds: behind the rectifier that the quantiser absorbs."""
    tensors = []
    for layer in facts.layers:
        reader = facts.model.sole_consumer(layer.output)
        rectified = reader is not None and reader.op_type in {"Relu", "Clip"}
        tensors.append(reader.output if reader is not None and rectified else layer.output)
    return tensors


def _values(executable: Executable, hidden: list[str], digits: Digits) -> dict[str, Array]:
    """Values of the hidden tensors and of the logits on all test images."""
    proto = onnx.ModelProto()
    proto.CopyFrom(executable.proto)
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in hidden if name != OUTPUT)
    wanted = [*(name for name in hidden if name != OUTPUT), OUTPUT]
    values = Session(replace(executable, proto=proto)).run({INPUT: digits.test}, wanted)
    return dict(zip(wanted, values, strict=True))


def _output_trial(network: str, scheme: Scheme, trial: int, exact: Array, other: Array, digits: Digits) -> OutputTrial:
    error = ClassifierErrorAccumulator()
    for row, label in enumerate(digits.test_labels):
        error.add(exact[row : row + 1], other[row : row + 1], int(label))
    return OutputTrial(
        network=network,
        scheme=scheme.name,
        trial=trial,
        float_accuracy=error.top1.float_accuracy,
        int8_accuracy=error.top1.quantised_accuracy,
        qmse=error.squared / error.rows,
        qce=error.entropy / error.rows,
        qkl=error.divergence / error.rows,
    )


def _layer_trials(
    facts: Facts, network: str, trial: int, hidden: list[str], exact: dict[str, Array], values: dict[str, Array]
) -> Iterator[LayerTrial]:
    for depth, (layer, tensor) in enumerate(zip(facts.layers, hidden, strict=True), 1):
        sums = TensorErrorAccumulator()
        sums.add(exact[tensor], values[tensor])
        error = sums.result()
        yield LayerTrial(
            network=network,
            trial=trial,
            depth=depth,
            layer=layer_name(layer),
            kind=kind(layer),
            tensor=tensor,
            qmse=error.qmse,
            qce=error.qce,
            qkl=error.qkl,
            sqnr_db=error.sqnr_db,
        )
