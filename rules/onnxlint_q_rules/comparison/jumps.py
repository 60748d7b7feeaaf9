"""What the rules about a pair share: where the error jumps, who takes part in it, and whether it heals.

A row *jumps* where its SQNR lies below `bad_db` and more than `jump_db` below all that its operator reads. A suspect
*takes part* where it alone, tried on the float model's values, leaves at most `takes_part_db` more than the row has.
An operator *inherits* its error where the float operator, on the same inputs, would leave at most `inherited_db` more:
it amplifies what came with them, because that is what the network does. The error *heals* where all that it gets to
lies at or above `bad_db` again before it gets to an output of the model; then it is no more than a note.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from onnxlint_q import (
    CONFIRM_BELOW_DB,
    INHERITED_DB,
    JUMP_DB,
    STRANGE,
    BiasReading,
    Compared,
    ComparedRow,
    Confidence,
    Facts,
    Finding,
    Location,
    Metric,
    PartReading,
    Remedy,
    Rule,
    Severity,
    Silence,
    WeightReading,
    option,
)

# What is left of a float32 that was rounded differently is no error that anybody asks about.
_EXACT_DB = 120.0
# Tensors that a note lists.
_NAMED = 3


@dataclass(frozen=True)
class JumpRule(Rule):
    """The base of a rule that looks for one kind of culprit at the rows that jump; not a rule itself."""

    severity: ClassVar[Severity] = Severity.WARNING
    confidence: ClassVar[Confidence] = Confidence.HIGH
    needs_comparison: ClassVar[bool] = True

    jump_db: float = option(
        JUMP_DB,
        doc="it is a jump if SQNR falls by more dB in one operator",
        source="half of the error's amplitude; healthy int8 files lose up to 12 dB in a layer, above bad-db",
    )
    bad_db: float = option(
        CONFIRM_BELOW_DB,
        doc="it is a jump if SQNR behind the operator is under so many dB",
        source="noise of a tenth of the signal",
    )
    broken_db: float = option(
        10.0, doc="SQNR under so many dB is an error", source="noise of a third of the signal's amplitude"
    )
    takes_part_db: float = option(
        6.0,
        doc="a part is a cause if it alone leaves at most so many dB more than the whole file does",
        source="half of the error's amplitude, so that two equal causes are both named",
    )

    inherited_db: float = option(
        INHERITED_DB,
        doc="an operator inherits the error if the float one leaves at most so many dB more on the same inputs",
        source="half of the error's power is the operator's own",
    )

    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """The culprits of a comparison, and why an operator is none; outside of a comparison there are none."""
        if facts.comparison is None:
            return
        for row in facts.comparison.rows:
            if not row.falls(self.jump_db, self.bad_db):
                yield Silence(row.location, self._no_jump(row))
        yield from self.culprits(facts, facts.comparison)

    def _no_jump(self, row: ComparedRow) -> str:
        """The first condition of a jump that a row does not meet."""
        if row.sqnr_db is None:
            return "its SQNR could not be measured"
        if row.sqnr_db >= self.bad_db:
            return f"{row.sqnr_db:.1f} dB are left, not under {self.bad_db:g}"
        before = "unknown" if row.reads_db is None else f"{row.reads_db:.1f} dB"
        return f"its SQNR falls to {row.sqnr_db:.1f} dB from {before}, by no more than {self.jump_db:g} dB"

    @abstractmethod
    def culprits(self, facts: Facts, compared: Compared) -> Iterator[Finding | Silence]:
        """What takes part in a jump and is of the kind that the rule looks for."""

    def jumps(self, compared: Compared) -> Iterator[ComparedRow]:
        """The rows that jump, in data order."""
        return (row for row in compared.rows if row.falls(self.jump_db, self.bad_db))

    def takes_part(self, row: ComparedRow, alone_db: float | None) -> bool:
        """Whether what alone leaves `alone_db` explains the SQNR of the row."""
        return alone_db is not None and row.sqnr_db is not None and alone_db < row.sqnr_db + self.takes_part_db

    def inherits(self, row: ComparedRow) -> bool:
        """Whether the float operator would have made most of the row's error of what the quantised file has before."""
        if row.inherited_db is None or row.sqnr_db is None:
            return False
        return row.inherited_db < row.sqnr_db + self.inherited_db

    def roundings(self, compared: Compared, row: ComparedRow) -> Iterator[tuple[ComparedRow, str, float | None]]:
        """Rows whose qparams take part, its own and what it reads: which part that is, and what it alone leaves."""
        if not row.valid_scale:
            yield row, "output", -math.inf
        elif row.qparams is not None and self.takes_part(row, row.qparams.rounding_sqnr_db):
            yield row, "input" if row.op_type == "Input" else "output", row.qparams.rounding_sqnr_db
        for read in map(compared.row, row.reads):
            if read is not None and read.qparams is not None:
                alone = row.input_db if row.input_db is not None else read.qparams.rounding_sqnr_db
                if self.takes_part(row, alone):
                    yield read, "input", alone

    def weight(self, row: ComparedRow) -> tuple[WeightReading, float | None] | None:
        """The weight of the row's layer if it takes part, with what it alone leaves."""
        held = row.weight
        if held is None or held.likeness < STRANGE:
            return None
        alone = held.alone_db if held.alone_db is not None else held.sqnr_db
        return (held, alone) if self.takes_part(row, alone) else None

    def lost_parts(self, row: ComparedRow) -> tuple[PartReading, ...]:
        """The parts of a joined value that the one scale for all of them costs most of what they had."""
        return tuple(part for part in row.parts if not self.kept(part))

    def kept(self, part: PartReading) -> str:
        """Why a part is none of `lost_parts`; empty where it is one."""
        if part.sqnr_db is None or part.sqnr_db >= self.bad_db:
            return f"{decibel(part.sqnr_db)} are left of {part.tensor!r}"
        if part.drop_db is not None and part.drop_db <= self.jump_db:
            return f"{part.tensor!r} had no more than {decibel(part.reads_db)} before it was joined"
        if part.alone_db is None or part.alone_db >= part.sqnr_db + self.takes_part_db:
            return f"the scale of the result alone leaves {decibel(part.alone_db)} of {part.tensor!r}"
        return ""

    def foreign(self, row: ComparedRow) -> WeightReading | None:
        """The weight of the row's layer if it is not the float one, rounded."""
        return row.weight if row.weight is not None and row.weight.likeness < STRANGE else None

    def bias(self, row: ComparedRow) -> BiasReading | None:
        """The bias of the row's layer if it takes part."""
        return row.bias if row.bias is not None and self.takes_part(row, row.bias.alone_db) else None

    def report(
        self,
        compared: Compared,
        row: ComparedRow,
        location: Location,
        what: str,
        *,
        part: str,
        tensor: str,
        alone_db: float | None,
        remedy: str | Remedy,
        metrics: Mapping[str, Metric] | None = None,
        lasting: str = "",
        shown_at: ComparedRow | None = None,
    ) -> Finding:
        """A finding about what takes part in the jump at `row`, which a run has confirmed.

        Args:
            compared: the two files.
            row: where the culprit is.
            location: of the culprit.
            what: is wrong, without a figure.
            part: what of the operator it is.
            tensor: which.
            alone_db: what it leaves if nothing else is wrong.
            remedy: where the error does not heal; there is nothing to do where it does.
            metrics: more figures.
            lasting: the message where the error does not heal, if not `what` and by how much SQNR falls.
            shown_at: the row where it is seen, if that is one behind.
        """
        seen = shown_at or row
        healed = compared.heals(seen, self.bad_db)
        left = seen.worst_db
        broken = left is not None and left < self.broken_db
        finding = self.finding(
            location,
            _note(what, seen, healed[0]) if healed else lasting or f"{what}: {fall(seen)}",
            severity=Severity.INFO if healed else Severity.ERROR if broken else self.severity,
            remedy="" if healed else remedy,
            measured=True,
            metrics={
                "part": part,
                "tensor": tensor,
                "jump_at": row.quantized,
                "seen_at": seen.quantized,
                "heals_at": healed[0].quantized if healed else None,
                "sqnr_db": left,
                "reads_db": seen.reads_db,
                "alone_db": alone_db,
                **(metrics or {}),
            },
        )
        measured = alone_db if alone_db is not None and math.isfinite(alone_db) else None
        return replace(finding, measured_db=measured, note=self._until(compared, seen) if healed else "")

    def _until(self, compared: Compared, row: ComparedRow) -> str:
        """What else differs before the error heals, as a sentence; empty where nothing does."""
        further = [other.reference for other in compared.spoilt(row, self.bad_db) if other is not row]
        named = ", ".join(map(repr, further[:_NAMED])) + (
            f" and {len(further) - _NAMED} more" if further[_NAMED:] else ""
        )
        return f"Until then differ too: {named}." if further else ""


def _note(what: str, row: ComparedRow, where: ComparedRow) -> str:
    left = f"{decibel(row.worst_db)} are left in {row.reference!r}"
    return f"{what}: {left}, which heals at {where.reference!r} ({decibel(where.sqnr_db)})"


def fall(row: ComparedRow) -> str:
    """`SQNR falls from 40.1 dB to 9.4 dB at conv`."""
    before = f" from {decibel(row.reads_db)}" if row.reads_db is not None and row.reads_db < _EXACT_DB else ""
    return f"SQNR falls{before} to {decibel(row.sqnr_db)} at {row.node!r}"


def decibel(value: float | None) -> str:
    """`9.4 dB`."""
    return f"{value:.1f} dB" if value is not None else "an unknown SQNR"
