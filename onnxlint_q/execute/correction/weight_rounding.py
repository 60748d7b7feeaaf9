"""Codes for the weights of a network, layer by layer, each for what it reads once those before it are rounded.

The quantised network runs piece by piece on all samples. Of what a layer reads only second moments are kept, and only
until its codes are known; then the network goes on with them.
"""

from __future__ import annotations

import math

import numpy as np

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.folding import FoldedLayer
from onnxlint_q.execute.correction.feedback import steps_with_feedback
from onnxlint_q.execute.correction.frontier import Frontier, that_fit
from onnxlint_q.execute.correction.moments import second_moments
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.variants.variant_runs import Samples
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.rewrite.rounding.steps import Steps, grid_of, roundable

WIDEST = 4608
"""Weights of a channel that are looked at together, at most: the work grows with the cube."""
WORK = 4e11
"""Operations that finding codes may take, about 20 s of a processor; layers that take least come first."""
# Rows that second moments are taken of: a few for each weight of a channel, and enough for a small kernel.
_ROWS_A_TAP, _FEWEST_ROWS = 8, 4096


def measure_steps(bench: Workbench, experiment: Experiment, samples: Samples, progress: Progress = silent) -> Steps:
    """By layer, how many steps each code is to be from the nearest one; a layer that gains nothing has no entry.

    Args:
        bench: the float network, with the ranges of its activations.
        experiment: what is quantised, and how.
        samples: starts a fresh pass over the samples.
        progress: told how many layers are done.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the network layer by layer.
        DataError: a sample cannot be read.
    """
    layers, scheme = _affordable(bench, experiment), experiment.scheme
    executable = bench.executable(experiment)
    names = {folded.output: executable.layer_weights[folded.output][0] for folded in layers}
    readers = {name: node for node in executable.proto.graph.node for name in node.input}
    reads = {folded.output: readers[names[folded.output]].input[folded.layer.inputs.input] for folded in layers}
    given = that_fit(samples(), bench.limits)
    frontier = Frontier(executable, list(reads.values()), given, bench.limits)
    del given
    found: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int8]]] = {}
    for done, folded in enumerate(layers):
        progress("rounding weights", done, len(layers))
        frontier.advance()
        matrix, grid = folded.matrix(bench.measured.model), grid_of(bench.measured, scheme, folded)
        rows = max(_FEWEST_ROWS, _ROWS_A_TAP * matrix.shape[1])
        values = frontier.values(reads[folded.output])
        moments = second_moments(folded.layer, values, -(-rows // max(frontier.samples, 1)))
        if moments is None:
            continue
        try:
            steps = steps_with_feedback(matrix, grid, moments)
        except np.linalg.LinAlgError:
            continue
        if steps.any():
            found[folded.output] = steps
            made = grid.values(grid.nearest(matrix) + steps, matrix)
            frontier.replace(names[folded.output], np.ascontiguousarray(folded.layer.as_stored(made)))
    return found


def _affordable(bench: Workbench, experiment: Experiment) -> list[FoldedLayer]:
    """The layers whose codes can be found with the work that there is, in data order."""
    weights = set(bench.weights_of(experiment))
    layers = [one for one in roundable(bench.measured, experiment.scheme) if one.output in weights]
    # Those that are codes all the same have another grid.
    layers = [one for one in layers if one.layer.node.name not in experiment.excluded]
    work = {one.output: _work(one) for one in layers}
    kept, left = set[str](), WORK
    for name in sorted(work, key=lambda one: work[one]):
        left -= work[name]
        if left < 0:
            break
        kept.add(name)
    return [one for one in layers if one.output in kept]


def _work(folded: FoldedLayer) -> float:
    """Operations that the moments of a layer, their inverse and its codes take; infinite where it is too wide."""
    layer = folded.layer
    taps = math.prod(layer.weight_shape) // layer.channels
    rows = max(_FEWEST_ROWS, _ROWS_A_TAP * taps)
    return (layer.group * (rows + 3 * taps) + layer.channels) * float(taps) ** 2 if taps <= WIDEST else math.inf
