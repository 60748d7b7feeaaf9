"""One fault is one finding: what the rules about each file say, settled with what running both files showed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onnxlint_q.analysis.observed.compared import JUMP_DB, Compared, ComparedRow
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.finding import (
    Claim,
    Confidence,
    Evidence,
    Finding,
    Location,
    Metric,
    Remasking,
    Rescaling,
    Severity,
    Subject,
)
from onnxlint_q.graph.names import tensor_key
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.supersede import gives_way


@dataclass(frozen=True, slots=True)
class Deciding:
    """The output that decides the verdict.

    Attributes:
        output: key of its row; empty where nothing is judged.
        branch: of one that joins several things, key of the part in the float file.
    """

    output: str = ""
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """The findings of both files.

    Attributes:
        quantized: of the quantised file and of the pair, what spoils the worst output first.
        reference: of the float file, as far as they are about what the quantised one does.
    """

    quantized: tuple[Finding, ...]
    reference: tuple[Finding, ...]


def settle(
    findings: Sequence[Finding],
    reference: Sequence[Finding],
    rules: Iterable[Rule],
    compared: Compared,
    below_db: float,
    deciding: Deciding = Deciding(),
) -> Settled:
    """Settle what is said of one fault.

    - Where a rule about a pair speaks, what it supersedes at that place gives way to it.
    - Where a finding of the quantised file explains what a rule about a pair measured, that gives way to it: the fault
      is in the file, and the jump is what comes of it. It explains what its rule supersedes, what is found by
      elimination at its place, and what is measured of the tensor that it is about.
    - A finding of the quantised file about an operator where the error jumps and no rule about a pair knows why tells
      that.
    - Where a rule about a pair measured and is silent, a suspicion is refuted if the place and all its readers,
      everything quantised, have at least `below_db`.
    - What the float file's rules say at a place where the error jumps becomes the first link of the chain of causes
      there, and what mends the float file is the remedy.

    Args:
        findings: on the quantised file.
        reference: on the float file.
        rules: those that ran.
        compared: what running both showed.
        below_db: SQNR (dB) below which an error counts.
        deciding: the output that decides the verdict; what spoils it comes first.
    """
    settlement = _Settlement(findings, rules, compared, below_db, deciding)
    return Settled(tuple(settlement.settled(reference)), tuple(settlement.of_reference(reference)))


@dataclass(slots=True)
class _Explained:
    """A finding of the quantised file, with what was measured of its fault."""

    finding: Finding
    jumps: list[Finding] = field(default_factory=list)


class _Settlement:
    def __init__(
        self,
        findings: Sequence[Finding],
        rules: Iterable[Rule],
        compared: Compared,
        below_db: float,
        deciding: Deciding,
    ) -> None:
        self.compared, self.below_db, self.deciding = compared, below_db, deciding
        self.order = {row.quantized: number for number, row in enumerate(compared.rows)}
        every = list(rules)
        about_pairs = [rule for rule in every if rule.needs_comparison]
        codes = {rule.code for rule in about_pairs}
        self.measured_by: dict[str, set[str]] = defaultdict(set)
        for rule in about_pairs:
            for code in rule.supersedes:
                self.measured_by[code].add(rule.code)
        self.tells_better = {rule.code: frozenset(rule.supersedes) for rule in every if not rule.needs_comparison}
        self.jumps = [finding for finding in findings if finding.code in codes]
        self.others = [finding for finding in findings if finding.code not in codes]

    def settled(self, reference: Sequence[Finding]) -> list[Finding]:
        explained, left = self._explanations()
        same: dict[int, list[str]] = {}
        kept = list(self._kept(left, [one.finding for one in explained], same))
        jumps = [
            replace(
                self._mended(jump, reference),
                note=" ".join(filter(None, (jump.note, *same.get(id(jump), ())))),
                causes=(*self._causes(jump, reference), *jump.causes),
            )
            for jump in left
        ]
        told = [self._told(one, reference) for one in explained]
        return sorted([*told, *jumps, *kept], key=self._importance)

    # -- what the file itself tells ------------------------------------------------------------------------------

    def _explanations(self) -> tuple[list[_Explained], list[Finding]]:
        """Findings of the file with the jumps that they explain, and the jumps that none explains."""
        found = [_Explained(finding) for finding in self.others if self._may_explain(finding)]
        left = []
        for jump in self.jumps:
            one = next((one for one in found if self._explains(one.finding, jump)), None)
            if one is None:
                left.append(jump)
            else:
                one.jumps.append(jump)
        return [one for one in found if one.jumps or self._unexplained(one.finding)], left

    def _may_explain(self, finding: Finding) -> bool:
        fact = finding.counts and finding.claim is None and finding.severity is not Severity.INFO
        return fact and finding.code not in self.measured_by and bool(finding.location.op_type)

    def _explains(self, finding: Finding, jump: Finding) -> bool:
        places = {key for key in (self._key(jump.location), jump.metrics.get("jump_at")) if key}
        if not places.intersection(self._touched(finding)) or jump.severity is Severity.INFO:
            return False
        if jump.code in self.tells_better.get(finding.code, ()) or jump.metrics.get("part") == "operator":
            return True
        return str(jump.metrics.get("tensor")) in self._named(finding)

    def _touched(self, finding: Finding) -> Iterator[str]:
        """Keys of the rows that a finding is about: its places, and of a constant what reads it."""
        for where in (finding.location, *finding.places):
            key = tensor_key(where.output, where.graph)
            row = self.compared.row(key)
            if row is not None:
                yield row.quantized
            yield from self.compared.constants.get(key, ())

    def _named(self, finding: Finding) -> set[str]:
        """Tensors that a finding names, constants as they are stored and dequantised."""
        keys = {tensor_key(where.output, where.graph) for where in (finding.location, *finding.places)}
        keys.update(value for value in finding.metrics.values() if isinstance(value, str))
        return keys | {self.compared.dequantised[key] for key in keys if key in self.compared.dequantised}

    def _unexplained(self, finding: Finding) -> bool:
        """Whether it is about an operator where the error jumps, and no rule about a pair tells why."""
        told = {jump.metrics.get("jump_at") for jump in self.jumps}
        rows = map(self.compared.row, self._touched(finding))
        return any(row is not None and row.quantized not in told and self._jumps(row) for row in rows)

    def _jumps(self, row: ComparedRow) -> bool:
        return row.falls(JUMP_DB, self.below_db) and not self.compared.heals(row, self.below_db)

    def _told(self, one: _Explained, reference: Sequence[Finding]) -> Finding:
        """A finding of the file with what came of its fault."""
        finding = one.finding
        if one.jumps:
            worst = min(one.jumps, key=self._importance)
            figures: Mapping[str, Metric] = worst.metrics
            said = f"Measured: {worst.message}"
            causes = (said, *self._causes(worst, reference), *worst.causes)
        else:
            rows = [
                row for row in map(self.compared.row, self._touched(finding)) if row is not None and self._jumps(row)
            ]
            row = min(rows, key=lambda row: row.sqnr_db or 0.0)
            figures = {"jump_at": row.quantized, "sqnr_db": row.sqnr_db, "reads_db": row.reads_db}
            causes = (f"Measured: {row.sqnr_db:.1f} dB are left at {row.node!r}.",)
        left = figures.get("sqnr_db")
        return replace(
            finding,
            severity=max((finding, *one.jumps), key=lambda held: held.severity.rank).severity,
            evidence=Evidence.CONFIRMED,
            measured_db=left if isinstance(left, float) else None,
            metrics={
                **{key: value for one in one.jumps for key, value in one.metrics.items()},
                **figures,
                **finding.metrics,
            },
            also=tuple(dict.fromkeys((*finding.also, *(jump.code for jump in one.jumps)))),
            causes=(*finding.causes, *causes),
        )

    # -- what gives way, and what is refuted -----------------------------------------------------------------------

    def _kept(
        self, jumps: Sequence[Finding], explained: Sequence[Finding], same: dict[int, list[str]]
    ) -> Iterator[Finding]:
        """Findings that do not give way; those that do are noted by the jump that they give way to."""
        for finding in self.others:
            if any(finding is one for one in explained):
                continue
            row = self._row(finding)
            measured_by = self.measured_by.get(finding.code)
            if row is None or measured_by is None:
                yield finding
                continue
            jump = next((one for one in jumps if one.code in measured_by and self._row(one) is row), None)
            if jump is not None and gives_way(finding, jump):
                same.setdefault(id(jump), []).append(f"{finding.code} {finding.name} reports the same.")
                continue
            yield self._refuted(finding, row) if jump is None else finding

    def _refuted(self, finding: Finding, row: ComparedRow) -> Finding:
        left = self._left(row)
        # A fact of the file is none that a run could refute.
        fine = left is not None and left >= self.below_db and finding.confidence is not Confidence.HIGH
        return finding.tested(Evidence.REFUTED, left) if fine else finding

    def _left(self, row: ComparedRow) -> float | None:
        """Worst SQNR at a row and behind it at its readers, of these with the rounding of the row alone where known."""
        behind = (r.input_db if r.input_db is not None else r.worst_db for r in self.compared.readers(row))
        figures = [row.worst_db, *behind]
        return min((figure for figure in figures if figure is not None), default=None) if None not in figures else None

    # -- what the float file tells ---------------------------------------------------------------------------------

    def of_reference(self, reference: Sequence[Finding]) -> Iterator[Finding]:
        """Findings on the float file about what the quantised one does, refuted where nothing is lost there."""
        for finding in reference:
            row = self._reference_row(finding)
            if finding.claim is None:
                yield finding
            elif row is not None and _is_done(finding.claim, row):
                yield self._refuted(finding, row)

    def _about(self, jump: Finding, reference: Sequence[Finding]) -> Iterator[Finding]:
        """Findings on the float file about what makes the error jump, one a damage."""
        row = self._row(jump)
        told: set[Claim] = set()
        for finding in reference:
            if row is None or self._reference_row(finding) is not row or finding.claim in told:
                continue
            if not _concerns(finding, jump, row):
                continue
            if finding.claim is not None:
                told.add(finding.claim)  # findings with one claim tell one damage
            yield finding

    def _causes(self, jump: Finding, reference: Sequence[Finding]) -> Iterator[str]:
        for finding in self._about(jump, reference):
            yield f"In the float model, {finding.code} {finding.name}: {finding.message}"

    def _mended(self, jump: Finding, reference: Sequence[Finding]) -> Finding:
        """With the remedy of the float file's fault, where a rewrite of the float file is one."""
        for finding in self._about(jump, reference):
            if isinstance(finding.change, Remasking | Rescaling) and jump.severity is not Severity.INFO:
                return replace(
                    jump,
                    remedy=f"In the float model: {finding.remedy[:1].lower()}{finding.remedy[1:]}",
                    snippet=finding.snippet,
                    otherwise=finding.otherwise,
                    change=finding.change,
                    nodes_to_exclude=finding.nodes_to_exclude,
                )
        return jump

    # -- places ------------------------------------------------------------------------------------------------------

    def _key(self, where: Location) -> str:
        row = self.compared.row(tensor_key(where.output, where.graph))
        return row.quantized if row is not None else ""

    def _row(self, finding: Finding) -> ComparedRow | None:
        return self.compared.row(tensor_key(finding.location.output, finding.location.graph))

    def _reference_row(self, finding: Finding) -> ComparedRow | None:
        where = finding.location
        key = self.compared.reference_keys.get(tensor_key(where.output, where.graph)) if where.op_type else None
        return self.compared.row(key) if key is not None else None

    def _importance(self, finding: Finding) -> tuple[bool, bool, int, int, str, str]:
        at = self.order.get(str(finding.metrics.get("jump_at")), len(self.order))
        where = finding.location
        place = f"{where.graph}/{where.output}"
        return not finding.counts, not self._decides(finding), -finding.severity.rank, at, finding.code, place

    def _decides(self, finding: Finding) -> bool:
        """Whether its error gets to the output that decides the verdict."""
        row = self.compared.row(str(finding.metrics.get("seen_at", finding.metrics.get("jump_at", ""))))
        if row is None or finding.severity is Severity.INFO:
            return False
        spoilt = {other.quantized for other in self.compared.spoilt(row, self.below_db)}
        branch = finding.metrics.get("branch")
        if not self.deciding.branch or branch is not None or row.quantized == self.deciding.output:
            return self.deciding.output in spoilt and branch in {None, self.deciding.branch}
        return self.compared.reference_keys.get(self.deciding.branch, self.deciding.output) in spoilt


def _is_done(claim: Claim, row: ComparedRow) -> bool:
    """Whether the quantised file does to a tensor what a claim is about."""
    if claim.subject is Subject.ACTIVATION:
        return row.qparams is not None
    if row.weight is None or row.weight.sqnr_db == math.inf:
        return False
    return claim.scheme == (INT8_PER_TENSOR if row.weight.scales <= 1 else INT8_PER_CHANNEL).name


def _concerns(finding: Finding, jump: Finding, row: ComparedRow) -> bool:
    """Whether what a rule says of the float file is about what makes the error jump."""
    claim = finding.claim
    if claim is None:
        return True
    if (claim.subject is Subject.WEIGHT) != (jump.metrics.get("part") == "weight"):
        return False
    one_scale = row.weight is None or row.weight.scales <= 1
    return claim.scheme == (INT8_PER_TENSOR if one_scale else INT8_PER_CHANNEL).name
