"""Weights of a float file before and after folding, and the BatchNormalizations that fold into them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxlint_q.analysis.causes.gains import compare_gains
from onnxlint_q.analysis.folding import BatchNorm, batch_norm
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.statistics import LayerFacts, WeightStatistics
from onnxlint_q.workflow.reading.values import OUTLIER, GainRow, NormRow, WeightFigures, WeightRow


def weight_rows(measured: Measured) -> tuple[WeightRow, ...]:
    """A row for each weight of a layer, in data order."""
    return tuple(_weight(layer) for layer in measured.weights)


def _weight(layer: LayerFacts) -> WeightRow:
    folded, source = layer.folded, layer.folded.layer
    norms = [norm.node for norm in (folded.before, folded.after) if norm is not None]
    magnitude = layer.weight.absmax
    return WeightRow(
        tensor=source.weight,
        output=layer.output,
        node=source.node.name,
        op_type=source.op_type,
        group=source.group,
        depthwise=source.depthwise,
        channels=source.channels,
        before=_figures(layer.before),
        after=_figures(layer.weight),
        norms=tuple(node.name or node.output for node in norms),
        operand=layer.operand,
        widest=int(np.argmax(magnitude)) if magnitude.size == source.channels > 0 else None,
    )


def _figures(weight: WeightStatistics) -> WeightFigures:
    empty = not weight.high.size
    return WeightFigures(
        low=0.0 if empty else float(weight.low.min()),
        high=0.0 if empty else float(weight.high.max()),
        std=weight.deviation,
        channel_ratio=weight.channel_ratio,
        average_precision=weight.average_precision,
    )


def norm_rows(measured: Measured) -> tuple[NormRow, ...]:
    """A row for each BatchNormalization with channels and constant parameters, in data order."""
    return tuple(_norms(measured))


def _norms(measured: Measured) -> Iterator[NormRow]:
    folds = {
        norm.node: (norm, layer)
        for layer in measured.layers
        for norm in (layer.folded.before, layer.folded.after)
        if norm is not None
    }
    blocked = {one.node: one.reason.value for one in measured.blocked}
    for node in measured.model.nodes_of("BatchNormalization"):
        norm, layer = folds.get(node) or (batch_norm(measured.model, node), None)
        if norm is None or not norm.gain.size:
            continue
        if layer is not None:
            yield _norm(norm, layer.node.name or layer.output, "")
        else:
            yield _norm(norm, "", blocked.get(node, ""))


def _norm(norm: BatchNorm, layer: str, blocked: str) -> NormRow:
    gains, magnitude = compare_gains(norm), np.abs(norm.gain)
    largest = np.argsort(-np.nan_to_num(gains.ratio, nan=np.inf), kind="stable")
    outliers = [index for index in largest.tolist() if not gains.ratio[index] < OUTLIER]
    high, ratio = float(magnitude.max()), float(gains.ratio.max())
    return NormRow(
        node=norm.node.name,
        output=norm.node.output,
        channels=norm.gain.size,
        folds_into=layer,
        blocked=blocked,
        gamma_low=float(norm.gamma.min()),
        gamma_high=float(norm.gamma.max()),
        gamma_mean=float(norm.gamma.mean()),
        gamma_std=float(norm.gamma.std()),
        gain_low=float(magnitude.min()),
        gain_high=high,
        median_gain=high / ratio if ratio else 0.0,
        ratio=ratio,
        outliers=tuple(
            GainRow(
                index,
                float(norm.gamma[index]),
                float(norm.variance[index]),
                float(norm.gain[index]),
                float(gains.ratio[index]),
                bool(gains.still[index]),
            )
            for index in outliers
        ),
    )
