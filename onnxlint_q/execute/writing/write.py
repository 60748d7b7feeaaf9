"""A quantised file written from a recipe: the lines that a user would type, run in a process of their own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.analysis.placement import scaled_tensors
from onnxlint_q.analysis.preparation import removed_for_good
from onnxlint_q.analysis.recipe import DATA, SYNTHETIC, Range, Recipe
from onnxlint_q.errors import UsageError
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.execute.writing.lines import Files, lines, obstacle
from onnxlint_q.execute.writing.prepared import prepared
from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.save import save_model
from onnxlint_q.rewrite.bias_correction import Shifts, corrected
from onnxlint_q.rewrite.rounding.steps import Steps, packed, rounded, unpacked
from onnxlint_q.script import ScriptError, run_lines


class NotWritableError(Exception):
    """ONNX Runtime's quantiser writes no such file; the text says why, in one line."""


def recipe_of(
    bench: Workbench, experiment: Experiment, shifts: Shifts | None = None, steps: Steps | None = None
) -> Recipe:
    """The recipe of an experiment on a whole network, with the ranges that its runs have.

    Args:
        bench: calibrated where the scheme wants that; with or without the shifts.
        experiment: all weights and activations that the scheme quantises, but for those of excluded nodes.
        shifts: of biases.
        steps: of codes, from the nearest ones.

    Raises:
        NotWritableError: no quantiser has the scheme, the opset is too old for it, or a tensor has no finite range.
    """
    scheme = experiment.scheme
    assert experiment.weights == experiment.activations == "all"
    names = {node.name for node in bench.measured.model.nodes}
    if reason := obstacle(scheme, bench.measured.model.opset):
        raise NotWritableError(reason)
    return Recipe(
        scheme,
        _ranges(bench, experiment),
        bench.observer if scheme.is_calibrated else "",
        tuple(sorted(experiment.excluded & names)),  # not what others would call a node that they make of two
        tuple(sorted(tensor for tensor in experiment.wide if not bench.measured.model.is_constant(tensor))),
        scheme.is_calibrated and bool(removed_for_good(bench.measured)),
        {layer: tuple(np.asarray(values, np.float32).tolist()) for layer, values in (shifts or {}).items()},
        packed(steps or {}),
        _basis(bench) if scheme.is_calibrated else "",
    )


def _basis(bench: Workbench) -> str:
    """What the ranges of a network come from; a recipe needs no data where all have them from elsewhere."""
    return SYNTHETIC if bench.observations is not None and bench.observations.synthetic else DATA


def without_range(bench: Workbench, experiment: Experiment) -> tuple[str, ...]:
    """Tensors that an experiment rounds and that no run has seen: those of others once a node is excluded.

    They have to be observed before a recipe can be made.
    """
    return tuple(tensor for tensor, ends in _ends(bench, experiment).items() if ends is None)


def _ranges(bench: Workbench, experiment: Experiment) -> Mapping[str, Range]:
    found: dict[str, Range] = {}
    for tensor, ends in _ends(bench, experiment).items():
        if ends is None or not np.isfinite(ends).all():
            raise NotWritableError(f"tensor {tensor[:80]!r} has no finite range on the samples")
        found[tensor] = (float(np.float32(ends[0])), float(np.float32(ends[1])))
    return found


def _ends(bench: Workbench, experiment: Experiment) -> Mapping[str, Range | None]:
    """By tensor, of those that have a scale of their own, and of those that hold the same values moved.

    Older quantisers ask for the latter. What is constant every quantiser reads by itself.
    """
    number = experiment.scheme.activations
    if number is None or not experiment.scheme.is_calibrated:
        return {}
    scheme, measured = experiment.scheme, bench.measured
    places = scaled_tensors(measured.model, measured.folded, experiment.excluded, layers_only=scheme.layers_only)
    return {
        place.tensor: bench.range_of(place, number.widened if place.like in experiment.wide else number)
        for place in places
        if (place.like == place.tensor or place.moved) and not place.constant
    }


def prepared_for(measured: Measured, recipe: Recipe) -> Model:
    """The float model that the quantiser is given: prepared, its weights on the grid, its biases shifted.

    Args:
        measured: the model that the recipe is for, its weights and biases as they were.
        recipe: which.

    Raises:
        UsageError: the recipe is one of another model.
        ModelError: a weight cannot be read.
    """
    steps = unpacked(measured, recipe.rounded)
    fitted = measure(rounded(measured, recipe.scheme, steps), measured.schemes) if steps else measured
    shifts = {layer: np.asarray(values, np.float64) for layer, values in recipe.shifts.items()}
    fitted = measure(corrected(fitted, shifts), measured.schemes) if shifts else fitted
    ready = prepared(fitted, recipe.scheme)
    names = {node.name for model in (measured.model, ready) for node in model.nodes}
    known = {*measured.model.flow, *ready.flow}
    unknown = [tensor for tensor in (*recipe.ranges, *recipe.wide) if tensor not in known]
    unknown += [name for name in recipe.excluded if name not in names]
    if unknown:
        raise UsageError(f"the recipe is of another model: there is no {unknown[0][:80]!r} in this one")
    return ready


def write_int8(ready: Model, recipe: Recipe, target: Path, limits: Limits = DEFAULT_LIMITS) -> None:
    """Write the quantised file of a recipe, with its weights beside it where one file cannot hold them.

    Args:
        ready: the model that `prepared_for` made.
        recipe: of that model.
        target: a file that is not there yet.
        limits: how long it may take.

    Raises:
        NotWritableError: the quantiser fails, crashes or takes too long.
        ModelError: the model's weights cannot be read any more.
    """
    with tempfile.TemporaryDirectory(prefix="onnxlint-q-") as folder:
        source, held = Path(folder) / "float.onnx", Path(folder) / "recipe.json"
        outside = len(save_model(ready, Path(folder), source.name)) > 1
        held.write_text(json.dumps(recipe.as_json()), encoding="utf-8")
        files = Files(str(source), str(held), str(target.absolute()), outside)
        try:
            run_lines(lines(recipe, files), "the quantiser", seconds=limits.writing_seconds)
        except ScriptError as error:
            raise NotWritableError(str(error).replace(f"{folder}{os.sep}", "")) from error
    if not target.exists():
        raise NotWritableError("the quantiser wrote no file")
