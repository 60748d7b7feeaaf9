"""The rows of a comparison: one a value that both files have, with what its operator reads and loses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from onnxlint_q.analysis.pairing.match import Pairing
from onnxlint_q.execute.data.source import Source
from onnxlint_q.graph import QuantizedTensor
from onnxlint_q.proof.comparison.compare import Measured
from onnxlint_q.proof.comparison.faults import FaultFinder
from onnxlint_q.proof.comparison.layer_weights import WeightReader
from onnxlint_q.proof.comparison.values import ComparedRow, CompareLevels


def compared_rows(
    pairing: Pairing,
    measured: Measured,
    quantized: tuple[QuantizedTensor, ...],
    source: Source,
    levels: CompareLevels,
) -> tuple[ComparedRow, ...]:
    """One row a value that was compared, in data order, jumps marked and explained.

    Raises:
        ModelError, DataError: as `run_both`, which ran the same samples before.
    """
    return tuple(_Rows(pairing, measured, quantized, source, levels).rows())


class _Rows:
    def __init__(
        self,
        pairing: Pairing,
        measured: Measured,
        quantized: tuple[QuantizedTensor, ...],
        source: Source,
        levels: CompareLevels,
    ) -> None:
        self.pairing, self.measured = pairing, measured
        self.makers = pairing.quantized.makers()
        self.operations = {entry.quantized: entry for entry in pairing.operations}
        self.weights = WeightReader(pairing, quantized)
        self.finder = FaultFinder(pairing, measured, source, levels)

    def rows(self) -> Iterator[ComparedRow]:
        for value in self.pairing.values:
            if value in self.measured.errors:
                yield self._row(value)

    def _row(self, value: int) -> ComparedRow:
        error = self.measured.errors[value]
        maker = self.makers.get(value)
        entry = self.operations.get(maker) if maker is not None else None
        held = self.pairing.quantized.values[value].tensors
        reads = self._reads(value)
        weights = self.weights.read(entry)
        row = ComparedRow(
            node=maker.node.label if maker is not None else held[0],
            op_type=maker.node.op_type if maker is not None else "Input",
            layer=entry is not None and entry.likeness is not None,
            reference=self.pairing.reference.values[self.pairing.values[value]].tensors[0],
            quantized=held[0],
            sqnr_db=error.sqnr_db,
            qmse=error.qmse,
            qce=error.qce,
            qkl=error.qkl,
            cosine=error.cosine,
            reads_db=reads,
            drop_db=_drop(reads, error.sqnr_db),
            weight_sqnr_db=weights.sqnr_db if weights is not None else None,
            qparams=self.measured.qparams.get(value),
        )
        faults = tuple(self.finder.faults(row, value, entry, weights))
        return replace(row, jumps=bool(faults), faults=faults)

    def _reads(self, value: int) -> float | None:
        """Worst SQNR of what makes `value`; through operations that were not compared to those before them."""
        maker = self.makers.get(value)
        if maker is None:
            return math.inf
        found: list[float] = []
        frontier, seen = list(maker.inputs), set(maker.inputs)
        while frontier:
            read = frontier.pop()
            error = self.measured.errors.get(read)
            if error is not None:
                if error.sqnr_db is not None:
                    found.append(error.sqnr_db)
                continue
            before = self.makers.get(read)
            for further in before.inputs if before is not None else ():
                if further not in seen:
                    seen.add(further)
                    frontier.append(further)
        return min(found, default=None)


def _drop(reads: float | None, sqnr: float | None) -> float | None:
    if reads is None or sqnr is None or (math.isinf(reads) and math.isinf(sqnr)):
        return None
    return reads - sqnr
