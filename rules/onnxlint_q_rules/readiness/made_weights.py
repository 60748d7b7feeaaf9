"""Weights that a Cast, a Transpose or another node makes of what the file stores.

Quantisers look for weights among the initializers. What a node makes of one they take for an activation:

- `quantize_dynamic` leaves a MatMul or Gemm in float, and rounds the weight of a Conv anew in every run;
- `quantize_static` gives the tensor one scale with unsigned codes, with `per_channel` too, and the file keeps the
  float weight; after `quant_pre_process`, which folds such nodes, it is a weight again.

Run with ONNX Runtime 1.32.0 on a Cast from float16, an Identity, a Transpose and a Constant node before a MatMul.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnxlint_q import (
    ROOT,
    Confidence,
    Example,
    Facts,
    Finding,
    LayerFacts,
    Rule,
    Severity,
    Silence,
    locate,
    whole_model,
)


def _model(kind: str, made: str, weight: str) -> str:
    return f"""
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N, 2] x) => (float[N, 2] y) <{kind}[2, 2] w = {{1, 2, 3, 4}}> {{
  {made}
  [dense] y = MatMul (x, {weight})
}}
"""


@dataclass(frozen=True)
class MadeWeights(Rule):
    """A node stands between a stored weight and its layer, so quantisers see no weight.

    ## What it does
    Looks at the layers of a float model whose weight is the result of a Cast, Transpose, Identity, Constant or another
    node that only depends on what the file stores.

    ## Why it breaks INT8
    `quantize_dynamic` leaves such a MatMul or Gemm in float without a word. `quantize_static` gives the weight one
    scale for the tensor, like an activation, unless `quant_pre_process` ran first.

    ## What to do
    Store the weight as the layer reads it: `fix` does it (stored-weights). Or run `quant_pre_process`, before
    `quantize_dynamic`, too.

    ## Sources
    onnxruntime 1.32.0, quantization/operators (find_initializer), measured.
    """

    code: ClassVar[str] = "QG014"
    name: ClassVar[str] = "made-weights"
    severity: ClassVar[Severity] = Severity.INFO
    confidence: ClassVar[Confidence] = Confidence.HIGH
    rewrites: ClassVar[tuple[str, ...]] = ("stored-weights",)

    good: ClassVar[tuple[Example, ...]] = (
        Example(_model("float", "", "w"), why="The layer reads what the file stores."),
    )
    bad: ClassVar[tuple[Example, ...]] = (
        Example(
            _model("float16", "[cast] wide = Cast <to = 1> (w)", "wide"),
            flags=("dense",),
            why="The weight is stored in float16.",
        ),
        Example(
            _model("float", "[turn] turned = Transpose (w)", "turned"),
            flags=("dense",),
            why="The weight is stored the other way round.",
        ),
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """One finding for all layers, at the first."""
        makers = {layer: _maker(facts, layer) for layer in facts.layers if facts.is_float}
        found = {layer: maker for layer, maker in makers.items() if maker}
        if not found:
            yield Silence(whole_model(facts), "each layer of a float model reads its weight as it is stored")
            return
        first, *others = found
        kinds = sorted(set(found.values()))
        named = " or ".join(kinds) if len(kinds) < 3 else f"{kinds[0]} and {len(kinds) - 1} other kinds of"
        have = "1 layer reads its weight" if not others else f"{len(found)} layers read their weights"
        yield self.finding(
            locate(facts, first),
            f"{have} from {named} nodes, where quantisers see no weight",
            remedy="Store each weight as its layer reads it, or run quant_pre_process before any quantiser. Else "
            "quantize_static gives it one scale, like an activation, and quantize_dynamic leaves a MatMul in float.",
            metrics={"layers": len(found), "makers": ", ".join(kinds)},
            places=[locate(facts, layer) for layer in others],
        )


def _maker(facts: Facts, layer: LayerFacts) -> str:
    """Type of the node that makes a weight of the main graph; empty where the layer reads an initializer."""
    maker = facts.model.producer(layer.folded.layer.weight) if layer.node.graph == ROOT else None
    return maker.op_type if maker is not None else ""
