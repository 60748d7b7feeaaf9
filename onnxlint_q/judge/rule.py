"""The base of every rule, and the examples that prove it.

A rule is one module: docstring with the maths and the source, a frozen dataclass whose fields are its options, the
examples `good` and `bad`, then `check`. Examples are the rule's tests and its documentation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnxlint_q.calls import exclude_option, quantize_static_call
from onnxlint_q.finding import (
    Claim,
    Confidence,
    Evidence,
    Finding,
    Location,
    Metric,
    Remedy,
    Requantisation,
    Severity,
    Silence,
)
from onnxlint_q.judge.advice.quantizer_options import requantised
from onnxlint_q.judge.facts import Facts

Weights = Callable[[np.random.Generator], Mapping[str, npt.NDArray[Any]]]
"""Makes the large initializers of an example, by name."""


@dataclass(frozen=True, slots=True)
class Example:
    """A small model in ONNX text that a rule must or must not flag.

    Attributes:
        model: ONNX text syntax; initializers may be declared with placeholder values and filled by `weights`.
        reference: for a rule about a pair, the float model that `model` was quantised from, in the same syntax; both
            are then run on `samples`.
        flags: for a bad example the names of the nodes, or of the tensors, that must be flagged; else empty.
        weights: makes the values of initializers too large to write down, from a seeded generator.
        samples: makes calibration data, one array of `[samples, ...]` an input; the example is then run on it.
        why: one line for the documentation page.
        targets: names of what it has to run on.
    """

    model: str
    flags: tuple[str, ...] = ()
    weights: Weights | None = None
    samples: Weights | None = None
    why: str = ""
    reference: str = ""
    targets: tuple[str, ...] = ()


def option(default: Any, *, doc: str, source: str) -> Any:
    """A rule's option: its default, what it means with its unit, and where the default comes from."""
    return field(default=default, metadata={"doc": doc, "source": source})


@dataclass(frozen=True)
class Rule(ABC):
    """One thing to look for.

    Subclasses are frozen dataclasses; their fields are options made with `option`.

    Attributes:
        code: `Q`, family letter, three digits; stable for ever.
        name: kebab-case, names the problem; the module is called the same in snake_case.
        severity: of its findings, unless the configuration says otherwise.
        confidence: how often a finding is true before anything ran.
        needs_calibration: it reads `facts.data` or `facts.observations` and is silent without them.
        needs_comparison: it reads `facts.comparison` and is silent without; only `compare` makes findings of it.
        supersedes: codes of rules about one file that tell a fault less well than this one: where both speak of one
            tensor, or make one claim, theirs gives way.
        rewrites: names of those of `fix` that cure what it finds, where they apply.
        good, bad: examples.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    confidence: ClassVar[Confidence] = Confidence.MEDIUM
    needs_calibration: ClassVar[bool] = False
    needs_comparison: ClassVar[bool] = False
    supersedes: ClassVar[tuple[str, ...]] = ()
    rewrites: ClassVar[tuple[str, ...]] = ()
    good: ClassVar[tuple[Example, ...]]
    bad: ClassVar[tuple[Example, ...]]

    @abstractmethod
    def check(self, facts: Facts) -> Iterator[Finding | Silence]:
        """Every place where the problem is, and why others are none as far as the rule tells.

        Never prints, never runs the model.
        """

    def told(self, facts: Facts) -> Iterator[Finding | Silence]:
        """What `check` gives, one after another.

        Raises:
            TypeError: it gives something else; left out, it would read as no finding.
        """
        for said in self.check(facts):
            if not isinstance(said, Finding | Silence):
                raise TypeError(f"check gave a {type(said).__name__}, which is no Finding")
            yield said

    def findings(self, facts: Facts) -> Iterator[Finding]:
        """What `check` found."""
        return (said for said in self.told(facts) if isinstance(said, Finding))

    def finding(
        self,
        location: Location,
        message: str,
        *,
        remedy: str | Remedy,
        metrics: Mapping[str, Metric] | None = None,
        snippet: str = "",
        claim: Claim | None = None,
        severity: Severity | None = None,
        measured: bool = False,
        places: Sequence[Location] = (),
        rewrites: Sequence[str] | None = None,
    ) -> Finding:
        """A finding of this rule.

        With a claim it starts as untested. What the data showed, that is all findings of a rule that needs calibration
        and those `measured`, is confirmed; anything else is a fact of the file.

        Message and remedy become sentences: a capital first, a full stop last. A change of how the model is quantised,
        or a list of nodes to leave in float, gives the snippet. One fault that does the same in several places is one
        finding: the first place is its location, `places` are the others. `rewrites` are those of the rule that may
        cure this one, all by default.
        """
        advised = remedy if isinstance(remedy, Remedy) else Remedy(remedy, snippet=snippet)
        change = advised.change
        of_data = measured or self.needs_calibration
        return Finding(
            code=self.code,
            name=self.name,
            severity=severity or self.severity,
            confidence=self.confidence,
            message=_sentence(message),
            location=location,
            metrics=dict(metrics or {}),
            remedy=_sentence(advised.text),
            snippet=_call(advised),
            nodes_to_exclude=advised.nodes_to_exclude,
            otherwise=_sentence(advised.otherwise),
            change=change,
            claim=claim,
            places=tuple(places),
            rewrites=self.rewrites if rewrites is None else tuple(rewrites),
            evidence=Evidence.UNTESTED if claim else Evidence.CONFIRMED if of_data else Evidence.STATIC,
        )

    @classmethod
    def options(cls) -> tuple[tuple[str, Any, str, str], ...]:
        """Name, default, meaning and source of each option."""
        return tuple((f.name, f.default, f.metadata["doc"], f.metadata["source"]) for f in fields(cls))


def _call(remedy: Remedy) -> str:
    if isinstance(remedy.change, Requantisation):
        return requantised(remedy.change)
    if remedy.nodes_to_exclude:
        return quantize_static_call(exclude_option(remedy.nodes_to_exclude))
    return remedy.snippet


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", "?", "!")) else ".")
