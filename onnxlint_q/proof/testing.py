"""Runs a rule's examples: for the tests of this project and of any rule package."""

from __future__ import annotations

from collections.abc import Sequence

from onnxlint_q.finding import Finding
from onnxlint_q.judge.facts import Facts
from onnxlint_q.judge.rule import Example, Rule
from onnxlint_q.judge.testing import example_facts, example_source, reference_facts
from onnxlint_q.proof.comparison.compare import compare_files, pair_files


def run_example(rule: Rule, example: Example) -> Sequence[Finding]:
    """The rule's findings on the example; two files are compared where it has a `reference`."""
    facts = pair_facts(example) if example.reference else example_facts(example)
    return list(rule.findings(facts))


def pair_facts(example: Example) -> Facts:
    """All that a rule sees of an example of a pair: the quantised file, and what running both showed."""
    facts = example_facts(example)
    pairing = pair_files(reference_facts(example), facts)
    return facts.compared(compare_files(pairing, facts, example_source(example)).compared)


def flagged(findings: Sequence[Finding]) -> set[str]:
    """What an example's `flags` are compared with: node names, or tensors where a node has no name."""
    return {finding.location.node or finding.location.output for finding in findings}
