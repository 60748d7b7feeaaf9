"""One fault is one finding: what the rules about each file say, settled with what running both files showed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from onnxlint_q.analysis.observed.compared import Compared, ComparedRow
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR
from onnxlint_q.finding import Claim, Confidence, Evidence, Finding, Subject
from onnxlint_q.graph.names import tensor_key
from onnxlint_q.judge.rule import Rule


def settle(
    findings: Sequence[Finding],
    reference: Sequence[Finding],
    rules: Iterable[Rule],
    compared: Compared,
    below_db: float,
) -> tuple[Finding, ...]:
    """The findings of a comparison, first jump first.

    Where a rule about a pair speaks, what it supersedes at that place gives way to it. Where it measured and is silent,
    a suspicion is refuted if the place and all its readers, everything quantised, have at least `below_db`. What the
    float file's rules say at a place where the error jumps becomes the first link of the chain of causes there.

    Args:
        findings: on the quantised file.
        reference: on the float file.
        rules: those that ran.
        compared: what running both showed.
        below_db: SQNR (dB) below which an error counts.
    """
    return tuple(_Settlement(findings, rules, compared, below_db).settled(reference))


class _Settlement:
    def __init__(self, findings: Sequence[Finding], rules: Iterable[Rule], compared: Compared, below_db: float) -> None:
        self.compared, self.below_db = compared, below_db
        self.order = {row.quantized: number for number, row in enumerate(compared.rows)}
        about_pairs = [rule for rule in rules if rule.needs_comparison]
        codes = {rule.code for rule in about_pairs}
        self.measured_by = {code: rule.code for rule in about_pairs for code in rule.supersedes}
        self.jumps = [finding for finding in findings if finding.code in codes]
        self.others = [finding for finding in findings if finding.code not in codes]

    def settled(self, reference: Sequence[Finding]) -> list[Finding]:
        same: dict[int, list[str]] = {}
        kept = list(self._kept(same))
        jumps = [
            replace(
                jump,
                note=" ".join(filter(None, (jump.note, *same.get(number, ())))),
                causes=(*self._causes(jump, reference), *jump.causes),
            )
            for number, jump in enumerate(self.jumps)
        ]
        return sorted([*jumps, *kept], key=self._importance)

    def _kept(self, same: dict[int, list[str]]) -> Iterator[Finding]:
        """Findings that do not give way; those that do are noted at the number of the jump that they give way to."""
        for finding in self.others:
            row = self._row(finding)
            rule = self.measured_by.get(finding.code)
            if row is None or rule is None:
                yield finding
                continue
            number = next((n for n, j in enumerate(self.jumps) if j.code == rule and self._row(j) is row), None)
            if number is not None and _gives_way(finding, self.jumps[number]):
                same.setdefault(number, []).append(f"{finding.code} {finding.name} reports the same.")
                continue
            left = self._left(row)
            # A fact of the file is none that a run could refute.
            fine = left is not None and left >= self.below_db and finding.confidence is not Confidence.HIGH
            yield finding.tested(Evidence.REFUTED, left) if fine and number is None else finding

    def _left(self, row: ComparedRow) -> float | None:
        """Worst SQNR at a row and behind it at its readers, of these with the rounding of the row alone where known."""
        behind = (r.input_db if r.input_db is not None else r.sqnr_db for r in self.compared.readers(row))
        figures = [row.sqnr_db, *behind]
        return min((figure for figure in figures if figure is not None), default=None) if None not in figures else None

    def _causes(self, jump: Finding, reference: Sequence[Finding]) -> Iterator[str]:
        row = self._row(jump)
        told: set[Claim] = set()
        for finding in reference:
            where = finding.location
            key = self.compared.reference_keys.get(tensor_key(where.output, where.graph)) if where.op_type else None
            if row is None or key != row.quantized or finding.claim in told or not _concerns(finding, jump, row):
                continue
            if finding.claim is not None:
                told.add(finding.claim)  # findings with one claim tell one damage
            yield f"In the float model, {finding.code} {finding.name}: {finding.message}"

    def _row(self, finding: Finding) -> ComparedRow | None:
        return self.compared.row(tensor_key(finding.location.output, finding.location.graph))

    def _importance(self, finding: Finding) -> tuple[bool, int, int, str, str]:
        at = self.order.get(str(finding.metrics.get("jump_at")), len(self.order))
        where = finding.location
        return not finding.counts, -finding.severity.rank, at, finding.code, f"{where.graph}/{where.output}"


def _gives_way(finding: Finding, jump: Finding) -> bool:
    """A suspicion does always, a fact of the file only to what is as severe."""
    return finding.confidence is not Confidence.HIGH or jump.severity.rank >= finding.severity.rank


def _concerns(finding: Finding, jump: Finding, row: ComparedRow) -> bool:
    """Whether what a rule says of the float file is about what makes the error jump."""
    claim = finding.claim
    if claim is None:
        return True
    if (claim.subject is Subject.WEIGHT) != (jump.metrics.get("part") == "weight"):
        return False
    one_scale = row.weight is None or row.weight.scales <= 1
    return claim.scheme == (INT8_PER_TENSOR if one_scale else INT8_PER_CHANNEL).name
