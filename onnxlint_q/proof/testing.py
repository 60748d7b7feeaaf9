"""Runs a rule's examples: for the tests of this project and of any rule package."""

from __future__ import annotations

from collections.abc import Sequence

from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.variants.unprepared import can_differ, measure_unprepared
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.finding import Finding
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_facts, example_source, reference_facts
from onnxlint_q.judge.verdict import Verdict, VerdictLevels
from onnxlint_q.proof.comparison.compare import compare_files, pair_files
from onnxlint_q.proof.costs import measure_costs
from onnxlint_q.proof.whole import measure_schemes


def check_examples(rule: Rule) -> None:
    """Check that a rule flags what its bad examples name, and nothing in its good ones: a whole test of a plug-in.

    Args:
        rule: with the options that its examples are meant for, which are the defaults: `check_examples(MyRule())`.

    Raises:
        AssertionError: it does not; all that differs is told.
    """
    wrong = [f"{rule.name} has no {kind} example" for kind in ("good", "bad") if not getattr(rule, kind)]
    for kind, examples in (("good", rule.good), ("bad", rule.bad)):
        for number, example in enumerate(examples):
            found, wanted = flagged(run_example(rule, example)), set(example.flags)
            if found != wanted or bool(wanted) != (kind == "bad"):
                told = f"names {_listed(wanted)}, and {rule.name} flags {_listed(found)}"
                wrong.append(f"{kind} example {number} {told}")
    if wrong:
        raise AssertionError("; ".join(wrong))


def _listed(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "nothing"


def run_example(rule: Rule, example: Example) -> Sequence[Finding]:
    """The rule's findings on the example; two files are compared where it has a `reference`."""
    return list(rule.findings(pair_facts(example) if example.reference else calibrated_facts(example)))


def calibrated_facts(example: Example) -> Facts:
    """All that a rule about one file sees of an example, run and measured where it brings samples."""
    facts = example_facts(example)
    if facts.observations is None or not facts.is_float:
        return facts
    source, bench, levels = example_source(example), workbench(facts).calibrated(facts.observations), VerdictLevels()
    everything = Split(source, facts.model.inputs, facts.observations.samples, 0)
    whole = measure_schemes(bench, everything)
    lost = [
        experiment.scheme
        for experiment, error in whole.errors.items()
        if error.has_signal and levels.verdict(error.sqnr_db) is not Verdict.SURVIVES
    ]
    facts = facts.costed(measure_costs(bench, whole, lost, everything.for_ranges).by_scheme)
    if not can_differ(bench):
        return facts
    return facts.quantised_unprepared(measure_unprepared(bench, everything, whole.errors))


def pair_facts(example: Example) -> Facts:
    """All that a rule sees of an example of a pair: the quantised file, and what running both showed."""
    facts = example_facts(example)
    reference = reference_facts(example)
    compared = compare_files(pair_files(reference, facts), reference, facts, example_source(example)).compared
    return facts.compared(compared)


def flagged(findings: Sequence[Finding]) -> set[str]:
    """What an example's `flags` are compared with: node names, or tensors where a node has no name."""
    return {finding.location.node or finding.location.output for finding in findings}
