"""The trial of remedies for a quantised file that has its float model beside it.

They are applied to the file itself, so that figures hold for the tool that made it. Nodes that are left in float lose
the scales between them and get the float model's weights; a tensor with another range gets its scale and zero point.
Before and after are run on the same samples, beside the float model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxlint_q.analysis.pairing.match import Pairing
from onnxlint_q.analysis.pairing.skeleton import Skeleton, StoredValue
from onnxlint_q.analysis.placement import is_quantized
from onnxlint_q.errors import OnnxlintError
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Allowance, Limits
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.finding import Finding, Remasking, Requantisation, Rescaling, Severity, TensorRange, Tried
from onnxlint_q.graph import Model, Node, QuantizedTensor
from onnxlint_q.graph.names import ROOT
from onnxlint_q.judge.verdict import GAIN_DB, Judge, Verdict
from onnxlint_q.proof.comparison.run_both import output_error
from onnxlint_q.proof.gain import Gain
from onnxlint_q.rewrite.editing import Edit

MOST_TRIED = 4
"""Remedies that are tried, those of the first findings: each costs a pass through both files."""
TRIAL_SAMPLES = 16
TRIAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Change:
    """What is changed in the file: nodes that are left in float, or tensors that get another range."""

    nodes: tuple[str, ...] = ()
    ranges: tuple[TensorRange, ...] = ()


def try_on_file(
    findings: Sequence[Finding],
    pairing: Pairing,
    quantized: Sequence[QuantizedTensor],
    source: Source,
    count: int,
    judge: Judge,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Finding, ...]:
    """The findings with what came of leaving nodes in float, and of other ranges; what was not tried stays as it is.

    Args:
        findings: on the quantised file, the most important first.
        pairing: of both files.
        quantized: the tensors of the quantised file that have a scale.
        source: the samples that both were run on.
        count: how many.
        judge: the verdict on an error; what survives is enough.
        limits: of the runs.
    """
    wanted = list(dict.fromkeys(change for finding in findings if (change := _change_of(finding)) is not None))
    if not wanted:
        return tuple(findings)
    samples, allowance = min(count, TRIAL_SAMPLES), Allowance(TRIAL_SECONDS)

    def left(model: Model) -> OutputError | None:
        changed = replace(pairing, quantized=replace(_read_by_name(pairing.quantized), model=model))
        try:
            return output_error(changed, source, samples, limits)
        except OnnxlintError:  # a remedy that ONNX Runtime does not run is none that was tried
            return None

    gains: dict[_Change, Gain] = {}
    before: OutputError | None = None
    for change in wanted[:MOST_TRIED]:
        made = _applied(change, pairing, quantized) if allowance.left > 0 else None
        if made is None:
            continue
        before = before or left(pairing.quantized.model)
        gain = Gain.of(before, left(made))
        if gain is not None:
            gains[change] = gain
    return tuple(_told(finding, gains, judge) for finding in findings)


def _read_by_name(skeleton: Skeleton) -> Skeleton:
    """Its outputs as callers get them: the codes in front of one may be gone."""
    names = {skeleton.value_of[one.name]: one.name for one in skeleton.model.outputs if one.name in skeleton.value_of}
    values = tuple(
        StoredValue((names[number],), None) if number in names else value
        for number, value in enumerate(skeleton.values)
    )
    return replace(skeleton, values=values)


def _change_of(finding: Finding) -> _Change | None:
    """What the remedy of a finding changes in the file, where that can be tried there."""
    if not finding.counts or finding.severity is Severity.INFO or finding.tried is not None:
        return None
    if isinstance(finding.change, Requantisation):
        return _Change(ranges=finding.change.ranges) if finding.change.ranges else None
    return _Change(nodes=finding.nodes_to_exclude) if finding.nodes_to_exclude else None


def _told(finding: Finding, gains: Mapping[_Change, Gain], judge: Judge) -> Finding:
    change = _change_of(finding)
    gain = gains.get(change) if change is not None else None
    if change is None or gain is None:
        return finding
    enough = judge(gain.after) is Verdict.SURVIVES
    helped = f"was tried and {'helps' if enough else 'helps, but not enough'}"
    how = "was tried and does harm" if gain.db <= -GAIN_DB else "was tried and does not help"
    said = f"{_named(change)} {helped if gain.db >= GAIN_DB else how}: {gain.figures} at the output of the file."
    tried = Tried(said, *gain.decibels)
    if gain.db >= GAIN_DB:
        return replace(finding, tried=tried)
    # What else is advised, a rewrite of the float model, was not tried here.
    other = isinstance(finding.change, Remasking | Rescaling)
    remedy = finding.remedy if other else finding.otherwise
    left = finding.change if other else None
    return replace(finding, remedy=remedy, snippet="", nodes_to_exclude=(), change=left, tried=tried)


def _named(change: _Change) -> str:
    if change.nodes:
        more = f" and {len(change.nodes) - 1} more" if len(change.nodes) > 1 else ""
        return f"Leaving {change.nodes[0]!r}{more} in float"
    ends = ", ".join(f"{one.low:.3g} to {one.high:.3g}" for one in change.ranges)
    return f"A range of {ends}"


def _applied(change: _Change, pairing: Pairing, quantized: Iterable[QuantizedTensor]) -> Model | None:
    """The quantised file with the change; None where it cannot be made there."""
    model = pairing.quantized.model
    edit = Edit(model)
    pairs = [pair for pair in quantized if pair.node.op_type == "QuantizeLinear" and pair.node.graph == ROOT]
    if change.ranges:
        done = all(_with_range(edit, model, pairs, one) for one in change.ranges)
    else:
        done = _in_float(edit, pairing, pairs, set(change.nodes))
    return edit.done() if done else None


def _with_range(edit: Edit, model: Model, pairs: Iterable[QuantizedTensor], wanted: TensorRange) -> bool:
    """Give a tensor the scale and zero point of another range; False where it has not one of each, in 8 or 16 bits."""
    found = [pair for pair in pairs if wanted.tensor == pair.unrounded]
    for pair in found:
        scale, zero_point, codes = pair.read_scale(model), pair.read_zero_point(model), pair.code_range
        if scale is None or zero_point is None or codes is None or scale.size != 1 or zero_point.size != 1:
            return False
        low, high = float(min(wanted.low, 0.0)), float(max(wanted.high, 0.0))
        symmetric = codes[0] < 0 and not zero_point.any()
        step = 2 * max(-low, high) / (codes[1] - codes[0]) if symmetric else (high - low) / (codes[1] - codes[0])
        if not 0 < step < np.inf:
            return False
        zero = 0 if symmetric else int(np.clip(np.rint(codes[0] - low / step), *codes))
        made = np.full(scale.shape, step, scale.dtype), np.full(zero_point.shape, zero, zero_point.dtype)
        names = [edit.constant(value, "onnxlint_q_tried_") for value in made]
        for node in (pair.node, *_readers_of_codes(model, pair)):
            for slot, name in enumerate(names, start=1):
                edit.read(node.output, slot, name)
    return bool(found)


def _readers_of_codes(model: Model, pair: QuantizedTensor) -> Iterator[Node]:
    return (node for node in model.consumers(pair.codes) if node.op_type == "DequantizeLinear")


def _in_float(edit: Edit, pairing: Pairing, pairs: Iterable[QuantizedTensor], names: set[str]) -> bool:
    """Leave nodes in float as a quantiser does: what a node beside them rounds, too, stays rounded."""
    model, original = pairing.quantized.model, pairing.reference.model
    nodes = [node for node in model.nodes if node.name in names and node.graph == ROOT]
    if {node.name for node in nodes} != names:
        return False
    partners = {node.name: node for node in original.nodes if node.graph == ROOT and node.name in names}
    changed = False
    for pair in pairs:
        restored = list(_readers_of_codes(model, pair))
        maker = model.producer(pair.unrounded)
        beside = [reader for back in restored for reader in model.consumers(back.output)]
        beside += [maker] if maker is not None else []
        touched = any(node.name in names for node in beside)
        if not touched or any(is_quantized(node) and node.name not in names for node in beside):
            continue
        for back in restored:
            _pass_through(edit, back.output, pair.unrounded)
            changed = True
    for node in nodes:
        for slot, key in enumerate(node.inputs):
            partner = partners.get(node.name)
            if not _is_restored_constant(model, key) or partner is None:
                continue
            value = original.constant(partner.input(slot)) if slot < len(partner.inputs) else None
            shape = model.shape(key)
            if value is None or (shape is not None and tuple(shape) != value.shape):
                return False
            edit.read(node.output, slot, edit.constant(value, "onnxlint_q_float_"))
            changed = True
    return changed


def _pass_through(edit: Edit, output: str, tensor: str) -> None:
    """Let what made `output` of codes hand on another tensor as it is."""
    node = edit.node(output)
    for name in node.input:
        edit.leave(name)
    node.op_type = "Identity"
    del node.input[:], node.attribute[:]
    node.input.append(tensor)


def _is_restored_constant(model: Model, key: str) -> bool:
    maker: Node | None = model.producer(key) if key else None
    return maker is not None and maker.op_type == "DequantizeLinear" and model.is_constant(key)
