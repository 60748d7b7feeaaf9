"""What each tensor alone costs each output, and what has to be given up for finer codes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.schemes import Scheme
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.output_error import Comparable, OutputError
from onnxlint_q.execute.variants.rounding import ActivationScale
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.proof.recipe.share import around
from onnxlint_q.proof.recipe.steps import Item


def items(bench: Workbench, scheme: Scheme, errors: Errors, *, wide: bool) -> tuple[Item, ...]:
    """Every tensor that was measured alone and can be finer; without those beside nodes that no list can name.

    Args:
        bench: the network, calibrated.
        scheme: that all else is quantised under.
        errors: of experiments on single tensors, beside others.
        wide: activations get 16 bits where the scheme has ranges for them; else nodes stay in float for all.
    """
    alone = {one: _noises(error) for one, error in errors.items() if one.scheme == scheme and _is_on_one(bench, one)}
    places = dict.fromkeys(place for noises in alone.values() for place in noises)
    beside = around(bench.measured, scheme) if wide and scheme.is_calibrated else None

    def made() -> Iterator[Item]:
        for one, noises in alone.items():
            noise = np.array([noises.get(place, 0.0) for place in places])
            if noise.any() and (item := _item(bench, one, beside, noise)) is not None:
                yield item

    return tuple(made())


def _item(
    bench: Workbench, one: Experiment, beside: Mapping[str, frozenset[str]] | None, noise: npt.NDArray[np.float64]
) -> Item | None:
    """The tensor of an experiment as one that may be finer; None where a node that it hangs on has no name."""
    measured, scheme = bench.measured, one.scheme
    for place in measured.placements_under(scheme) if one.activations and beside is not None else ():
        assert beside is not None
        rounding = bench.roundings(scheme).get(place.tensor)
        if place.tensor in one.activations and isinstance(rounding, ActivationScale) and np.isfinite(rounding.scale):
            return Item(noise, beside.get(place.like, frozenset()), wide=place.like)
    freer = measured.freer_under(scheme)
    freeing = next((freer.weight(key) for key in one.weights), None) or freer.activation(next(iter(one.activations)))
    names = freer.names(freeing.nodes)
    if freeing.unnamed or not names:
        return None
    return Item(noise, measured.float_weights(scheme, names), nodes=names)


def _is_on_one(bench: Workbench, one: Experiment) -> bool:
    """Whether it is on one tensor that the quantiser gives codes."""
    if one.weights == "all" or one.activations == "all" or len(one.weights) + len(one.activations) != 1:
        return False
    return all(one.scheme.quantises(bench.measured.layer_by_output[key].folded.layer) for key in one.weights)


def _noises(error: OutputError) -> Mapping[tuple[str, str], float]:
    """Noise over signal at each output and part that could be compared, by the names of both."""
    every = ((figures, one) for figures in error.outputs for one in (figures, *figures.parts))
    return {
        (whole.name, one.name): 0.0 if one.sqnr_db is None else float(10 ** (-one.sqnr_db / 10))
        for whole, one in every
        if one.comparable is Comparable.YES
    }
