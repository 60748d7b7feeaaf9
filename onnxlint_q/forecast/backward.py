"""The pass backward: what an error in a tensor costs at the output."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxlint_q.errors import OnnxlintError
from onnxlint_q.forecast.ends import End
from onnxlint_q.forecast.forward import Propagation, failure
from onnxlint_q.forecast.operators.control.bodies import FADED
from onnxlint_q.forecast.population import Samples, image_power
from onnxlint_q.forecast.step import Edge, Rounds, Step
from onnxlint_q.forecast.transfer import OutputCost
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.operators import Trait

# What noise costs less on sequences that a network has learnt than on random ones, for each attention behind it. Two
# networks of twelve attentions that read molecules ask for 1 dB or more (15 and 8 dB for weights of the first block,
# nothing for those of the last); six of three or four attentions ask for nothing, one of them a published language
# model. Half of it loses the least of the ranking in any of the eight.
SETTLED_DB = 0.5


def output_costs(
    model: Model, propagation: Propagation, ends: Sequence[End]
) -> tuple[Mapping[str, OutputCost], tuple[str, ...]]:
    """OutputCost of every tensor that reaches one of the ends, and where the sweep back failed.

    Failures are told as those of `Propagation`.
    """
    draw = np.random.default_rng(0)
    costs: dict[str, OutputCost] = {}
    failures: list[str] = []
    for end in ends:
        _add(costs, end.output, OutputCost(end.rows(draw, propagation.samples[end.output])))
    back = _Back(propagation.samples, failures)
    with np.errstate(all="ignore"):
        back.walk(propagation.steps, costs)
    if propagation.invented:
        _settle(model, propagation, costs)
    return costs, tuple(failures)


class _Back:
    """The sweep back: what it reads, and where it failed."""

    def __init__(self, samples: Mapping[str, Samples], failures: list[str]) -> None:
        self._samples = samples
        self._failures = failures

    def walk(self, steps: Sequence[tuple[Node, Step]], costs: dict[str, OutputCost]) -> None:
        """Add to `costs` what they come to in front of these steps."""
        for node, step in reversed(steps):
            for edge in step.edges:
                self._carry(node, edge, costs.get(node.outputs[edge.output]), costs)
            if step.rounds is not None:
                self._rounds(node, step.rounds, costs)

    def _rounds(self, node: Node, rounds: Rounds, costs: dict[str, OutputCost]) -> None:
        """Back through the last round, then from what it was given through the one before, until nothing is left."""
        ends = {key: costs.pop(key) for key in rounds.results if key in costs}
        most = _power(ends)
        for left in reversed(range(rounds.count)):
            here = dict(ends)
            self.walk(rounds.steps, here)
            for key, edge in (*rounds.entered, *rounds.begun * (not left)):
                self._carry(node, edge, here.get(key), here)
            ends = {}
            for key, edge in rounds.fed_back:
                self._carry(node, edge, here.get(key), ends)
            for key, cost in here.items():
                _add(costs, key, cost)
            if not _power(ends) > FADED * most:
                break

    def _carry(self, node: Node, edge: Edge, behind: OutputCost | None, costs: dict[str, OutputCost]) -> None:
        if behind is None:
            return
        try:
            _add(costs, edge.source, _pulled(edge, behind, self._samples[edge.source]))
        except OnnxlintError:
            raise
        except Exception as error:  # a fault of a rule weakens the forecast and is told; it does not end the lint
            self._failures.append(failure(node, error))


def _power(costs: Mapping[str, OutputCost]) -> float:
    return sum(float(image_power(cost.rows).sum()) for cost in costs.values())


def _backwards(steps: Sequence[tuple[Node, Step]]) -> Iterator[tuple[Node, str, Edge]]:
    """Each edge with its node and the tensor that it leads to, against the data."""
    for node, step in reversed(steps):
        yield from ((node, node.outputs[edge.output], edge) for edge in step.edges)
        if step.rounds is not None:
            yield from _backwards(step.rounds.steps)
            yield from ((node, key, edge) for key, edge in (*step.rounds.entered, *step.rounds.begun))


def _settle(model: Model, propagation: Propagation, costs: dict[str, OutputCost]) -> None:
    """Make costs on random sequences those on sequences that the network has learnt: an attention takes noise off."""
    attentions: dict[str, int] = {}
    outputs = {value.name for value in model.outputs}
    for node, key, edge in _backwards(propagation.steps):
        own = int(node.operator.has(Trait.SCORES) and node.output not in outputs)
        attentions[edge.source] = max(attentions.get(edge.source, 0), attentions.get(key, 0) + own)
    # Tensors that are added up, or differ in shape alone, have their rows in one place of memory: they stay so.
    once: dict[Hashable, Samples] = {}
    for key, count in attentions.items():
        if count and key in costs:
            rows, factor = costs[key].rows, 10 ** (-SETTLED_DB * count / 20)
            place = rows.__array_interface__["data"], rows.shape, rows.strides, count
            if place not in once:
                once[place] = rows * np.float32(factor)
            costs[key] = replace(costs[key], rows=once[place], settled=costs[key].settled * factor)


def _pulled(edge: Edge, cost: OutputCost, source: Samples) -> OutputCost:
    pulled = edge.transfer.pull(cost)
    if pulled.rows.shape != source.shape:
        raise ValueError(f"rows of shape {pulled.rows.shape} for samples of shape {source.shape}")
    return pulled


def _add(costs: dict[str, OutputCost], key: str, more: OutputCost) -> None:
    costs[key] = costs[key] + more if key in costs else more
