"""The rows of a comparison: one a value that both files have, with what its operator reads and loses.

An operator behind which the error falls is run alone on the float model's values, so that a rule can tell what is its
own from what it inherits.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.number_formats import decibel
from onnxlint_q.analysis.observed.compared import Compared, ComparedRow
from onnxlint_q.analysis.observed.readings import BiasReading, WeightReading
from onnxlint_q.analysis.pairing.match import PairedOperation, Pairing
from onnxlint_q.analysis.pairing.skeleton import Operation, Skeleton
from onnxlint_q.execute.data.source import Source
from onnxlint_q.finding import Location
from onnxlint_q.graph import Model, QuantizedTensor, Trait
from onnxlint_q.proof.comparison.differences import differing_attributes, missing_activations
from onnxlint_q.proof.comparison.isolate import Paired, isolate
from onnxlint_q.proof.comparison.layer_weights import LayerWeights, WeightReader
from onnxlint_q.proof.comparison.parameters import ParameterReader
from onnxlint_q.proof.comparison.run_both import PairErrors

Vector = npt.NDArray[np.float64]
# Operators that are run alone, those first that lose most; each takes a session of the float model.
_ISOLATED = 16


def compared_rows(
    pairing: Pairing,
    errors: PairErrors,
    reference: Measured,
    quantized: Measured,
    source: Source,
    jump_db: float,
    bad_db: float,
) -> Compared:
    """One row a value that was compared, in data order; operators run alone where `ComparedRow.falls` at these levels.

    Raises:
        ModelError, DataError: as `run_both`, which ran the same samples before.
    """
    parameters = ParameterReader(pairing, reference.folded, quantized.folded)
    rows = _Rows(pairing, errors, quantized.quantized, parameters, source)
    return Compared(
        rows=rows.rows(jump_db, bad_db),
        keys=_keys(pairing.quantized, {value: value for value in errors.errors}, pairing.quantized),
        reference_keys=_keys(
            pairing.reference,
            {ours: value for value, ours in pairing.values.items() if value in errors.errors},
            pairing.quantized,
        ),
        constants=_constants(pairing.quantized, errors.errors),
        dequantised=_dequantised(pairing.quantized),
    )


def _keys(skeleton: Skeleton, rows: Mapping[int, int], quantized: Skeleton) -> Mapping[str, str]:
    """Key of the row that holds a tensor, by the tensor's key; `rows` gives its value in the quantised skeleton."""
    return {
        tensor: quantized.values[rows[value]].tensors[0] for tensor, value in skeleton.value_of.items() if value in rows
    }


def _constants(skeleton: Skeleton, rows: Collection[int]) -> Mapping[str, tuple[str, ...]]:
    """Keys of the rows whose operators read a constant, as it is or through what dequantises it."""
    model = skeleton.model
    found: dict[str, dict[str, None]] = {}
    for operation in skeleton.operations:
        held = [skeleton.values[value].tensors[0] for value in operation.outputs if value in rows]
        read = [key for node in operation.nodes for key in node.inputs if key and model.is_constant(key)]
        for key in held and read:
            maker = model.producer(key)
            for source in (key, *(maker.inputs if maker is not None else ())):
                found.setdefault(source, {}).update(dict.fromkeys(held))
    return {key: tuple(readers) for key, readers in found.items()}


def _dequantised(skeleton: Skeleton) -> Mapping[str, str]:
    """Key of what a constant becomes, by that of its codes or its scale."""
    model, found = skeleton.model, {}
    for operation in skeleton.operations:
        for key in (key for node in operation.nodes for key in node.inputs if key and model.is_constant(key)):
            maker = model.producer(key)
            found.update(dict.fromkeys(maker.inputs if maker is not None else (), key))
    return found


class _Rows:
    def __init__(
        self,
        pairing: Pairing,
        errors: PairErrors,
        quantized: tuple[QuantizedTensor, ...],
        parameters: ParameterReader,
        source: Source,
    ) -> None:
        self.parameters = parameters
        self.missing = missing_activations(pairing)
        self.pairing, self.errors, self.source = pairing, errors, source
        self.makers = pairing.quantized.makers()
        self.operations = {entry.quantized: entry for entry in pairing.operations}
        self.weights = WeightReader(pairing, quantized)
        outputs = pairing.quantized.model.outputs
        self.outputs = {pairing.quantized.value_of.get(value.name) for value in outputs}

    def rows(self, jump_db: float, bad_db: float) -> tuple[ComparedRow, ...]:
        made = {value: self._row(value) for value in self.pairing.values if value in self.errors.errors}
        falling = [value for value, row in made.items() if row.falls(jump_db, bad_db) and self._entry(value)]
        for value in sorted(falling, key=lambda value: made[value].drop_db or 0.0, reverse=True)[:_ISOLATED]:
            made[value] = self._with_experiments(made[value], value)
        return tuple(made.values())

    def _entry(self, value: int) -> PairedOperation | None:
        maker = self.makers.get(value)
        return self.operations.get(maker) if maker is not None else None

    def _row(self, value: int) -> ComparedRow:
        error = self.errors.errors[value]
        maker, entry = self.makers.get(value), self._entry(value)
        held = self.pairing.quantized.values[value]
        sources = tuple(sorted(self._sources(maker)))
        reads = self._reads(maker, sources)
        weights = self.weights.read(entry)
        return ComparedRow(
            node=maker.node.label if maker is not None else held.tensors[0],
            op_type=maker.node.op_type if maker is not None else "Input",
            layer=entry is not None and entry.likeness is not None,
            reference=self.pairing.reference.values[self.pairing.values[value]].tensors[0],
            quantized=held.tensors[0],
            sqnr_db=error.sqnr_db,
            qmse=error.qmse,
            qce=error.qce,
            qkl=error.qkl,
            cosine=error.cosine,
            reads_db=reads,
            drop_db=_drop(reads, error.sqnr_db),
            location=self._location(value, maker),
            reference_node=entry.reference.node.name if entry is not None else "",
            reads=tuple(self.pairing.quantized.values[read].tensors[0] for read in sources),
            output=value in self.outputs,
            moves=maker is not None and maker.node.operator.has(Trait.REARRANGES | Trait.COPIES) and not maker.behind,
            fused=entry is not None and self._is_fused(value, entry),
            valid_scale=self._valid_scale(held.quantized),
            qparams=self.errors.qparams.get(value),
            weight=_weight(entry, weights),
            bias=self._bias(value, weights),
            parts=self.errors.parts.get(value, ()),
            parameters=tuple(self.parameters.read(entry.reference, entry.quantized)) if entry is not None else (),
            missing=self.missing.get(value, ()),
            differing=tuple(differing_attributes(self.pairing, entry)) if entry is not None else (),
        )

    def _with_experiments(self, row: ComparedRow, value: int) -> ComparedRow:
        entry = self._entry(value)
        operation = Paired(entry, value, self.weights.read(entry)) if entry is not None else None
        alone = isolate(self.pairing, operation, self._before(operation.entry), self.source) if operation else None
        if alone is None:
            return row
        alone = alone.over_all(row.sqnr_db)
        return replace(
            row,
            weight=replace(row.weight, alone_db=alone.weight_db) if row.weight is not None else None,
            input_db=alone.input_db,
            inherited_db=alone.inherited_db,
            before_db=alone.before_db,
        )

    def _before(self, entry: PairedOperation) -> Paired | None:
        """The layer that makes what an operator reads; None if it reads several values, or the maker is no layer."""
        if len(entry.quantized.inputs) != 1 or entry.quantized.inputs[0] not in self.pairing.values:
            return None
        (value,) = entry.quantized.inputs
        maker = self.makers.get(value)
        before = self.operations.get(maker) if maker is not None else None
        return Paired(before, value, self.weights.read(before)) if before is not None else None

    def _location(self, value: int, maker: Operation | None) -> Location:
        if maker is None:
            return Location(output=self.pairing.quantized.values[value].tensors[0])
        return self.pairing.quantized.model.locate(maker.node)

    def _is_fused(self, value: int, entry: PairedOperation) -> bool:
        """Whether the value is another tensor than what the operator itself makes, in one of the files."""
        ours = self.pairing.reference.values[self.pairing.values[value]]
        theirs = self.pairing.quantized.values[value]
        return not (
            set(ours.tensors) & set(entry.reference.node.outputs)
            and set(theirs.tensors) & set(entry.quantized.node.outputs)
        )

    def _valid_scale(self, pair: QuantizedTensor | None) -> bool:
        scale = pair.read_scale(self.pairing.quantized.model) if pair is not None else None
        return scale is None or bool((np.isfinite(scale) & (scale > 0)).all())

    def _bias(self, value: int, weights: LayerWeights | None) -> BiasReading | None:
        error = self.errors.errors[value]
        if weights is None or not weights.quantized.layer.bias:
            return None
        if error.qmse is None or error.sqnr_db is None or not math.isfinite(error.sqnr_db):
            return None
        biases = _biases(self.pairing.reference.model, self.pairing.quantized.model, weights)
        if biases is None:
            return None
        exact, held = biases
        difference = float(np.square(exact - held).mean())
        # The power of the signal is that of the error times their ratio.
        alone = decibel(error.qmse * 10 ** (error.sqnr_db / 10), difference)
        if alone is None:
            return None
        layer, beta = weights.quantized.layer, weights.reference.layer.bias_factor
        return BiasReading(layer.bias, math.sqrt(difference), alone, _factor(exact, held), layer.factor, beta)

    def _reads(self, maker: Operation | None, sources: tuple[int, ...]) -> float | None:
        """Worst SQNR of what makes a value; infinite for an input of the model."""
        if maker is None:
            return math.inf
        known = (self.errors.errors[read].sqnr_db for read in sources)
        return min((sqnr for sqnr in known if sqnr is not None), default=None)

    def _sources(self, maker: Operation | None) -> Iterator[int]:
        """Compared values that `maker` reads; through operations that were not compared to those before them."""
        frontier = list(maker.inputs) if maker is not None else []
        visited = set(frontier)
        while frontier:
            read = frontier.pop()
            if read in self.errors.errors:
                yield read
                continue
            before = self.makers.get(read)
            for further in before.inputs if before is not None else ():
                if further not in visited:
                    visited.add(further)
                    frontier.append(further)


def _weight(entry: PairedOperation | None, weights: LayerWeights | None) -> WeightReading | None:
    if entry is None or weights is None or entry.likeness is None:
        return None
    return WeightReading(
        tensor=weights.quantized.layer.weight,
        likeness=entry.likeness,
        sqnr_db=weights.sqnr_db,
        channels_db=weights.channels_db,
        scales=weights.scale.size,
        excess=weights.excess,
        empty=weights.empty,
    )


def _biases(model: Model, other: Model, weights: LayerWeights) -> tuple[Vector, Vector] | None:
    """The float bias and the quantised one; None where one of them cannot be read."""
    ours, theirs = weights.reference, weights.quantized
    if not (ours.layer.bias or ours.is_folded):
        return None
    exact, held = ours.real_bias(model), theirs.real_bias(other)
    if exact is None or held is None or exact.shape != held.shape:
        return None
    return exact * ours.layer.bias_factor, held * theirs.layer.bias_factor


def _factor(exact: Vector, held: Vector) -> float | None:
    """How many times `exact` another bias is, to a hundredth of its power; None where it is no multiple."""
    power = float(np.square(exact).sum())
    factor = float(np.dot(exact, held)) / power if power > 0 else 0.0
    rest = float(np.square(held - factor * exact).sum())
    return factor if power > 0 and rest <= 0.01 * float(np.square(held).sum()) else None


def _drop(reads: float | None, sqnr: float | None) -> float | None:
    if reads is None or sqnr is None or (math.isinf(reads) and math.isinf(sqnr)):
        return None
    return reads - sqnr
