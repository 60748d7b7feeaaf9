"""Fused operators of ONNX Runtime and of new opsets as the graphs that they stand for.

The forecast has rules for plain operators only. A fused one is written out as such in front of it, so that a fused and
an unfused file are told the same. What is written out has the results of the operator under their own names.

Sources: the ONNX operator specification, and ContribOperators.md of ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from onnxlint_q.forecast.fused import attention, plain
from onnxlint_q.forecast.fused.writer import LAYER_NORM_OPSET, Rule, UnexpandedError, Writer
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.loading.build import rebuilt
from onnxlint_q.graph.names import ROOT
from onnxlint_q.graph.operators import MICROSOFT

RULES: Mapping[tuple[str, str], Rule] = {
    ("", "LayerNormalization"): plain.layer_normalisation,
    ("", "SimplifiedLayerNormalization"): plain.rms_normalisation,
    ("", "RMSNormalization"): plain.rms_normalisation,
    ("", "Einsum"): plain.einsum,
    ("", "Attention"): attention.standard_attention,
    ("", "RotaryEmbedding"): attention.rotary,
    (MICROSOFT, "SkipLayerNormalization"): plain.skip_normalisation,
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): plain.skip_normalisation,
    (MICROSOFT, "EmbedLayerNormalization"): plain.embedding,
    (MICROSOFT, "Gelu"): plain.gelu,
    (MICROSOFT, "BiasGelu"): plain.gelu,
    (MICROSOFT, "FastGelu"): plain.gelu,
    (MICROSOFT, "QuickGelu"): plain.quick_gelu,
    (MICROSOFT, "FusedMatMul"): plain.fused_product,
    (MICROSOFT, "Attention"): attention.packed_attention,
    (MICROSOFT, "MultiHeadAttention"): attention.attention_of_heads,
    (MICROSOFT, "GroupQueryAttention"): attention.grouped_attention,
    (MICROSOFT, "RotaryEmbedding"): attention.rotary,
}


@dataclass(frozen=True, slots=True, eq=False)
class Expansion:
    """A model without fused operators.

    Attributes:
        model: the graph.
        products: by result of an operator that held a weight, the tensor that input and weight are multiplied to.
    """

    model: Model
    products: Mapping[str, str] = field(default_factory=dict)


def expanded(model: Model) -> Expansion:
    """The model with every fused operator of its main graph written out; the same one where there is none."""
    if not any(_rule(model, node) for node in model.nodes):
        return Expansion(model)
    by_output = {node.output: node for node in model.nodes if node.graph == ROOT and _rule(model, node) is not None}
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    products: dict[str, str] = {}
    for proto in model.proto.graph.node:
        node = by_output.get(next(filter(None, proto.output), ""))
        writer = None if node is None else _written(model, node)
        if writer is None:
            nodes.append(proto)
            continue
        nodes += writer.nodes
        constants += writer.constants
        products |= writer.products
    changed = onnx.ModelProto()
    changed.CopyFrom(model.proto)
    changed.graph.ClearField("node")
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(constants)
    return Expansion(rebuilt(model, changed), products)


def _rule(model: Model, node: Node) -> Rule | None:
    rule = RULES.get((("" if node.is_standard else node.domain), node.op_type))
    known = rule is plain.layer_normalisation and model.opset >= LAYER_NORM_OPSET
    return None if known else rule


def _written(model: Model, node: Node) -> Writer | None:
    writer, rule = Writer(model, node), _rule(model, node)
    if rule is None:
        return None
    try:
        rule(writer)
    except UnexpandedError:
        return None
    return writer
