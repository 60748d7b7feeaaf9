"""The baseline: what is known of models today, so that only what is new fails a build.

A file of JSON, one line a finding, sorted: it diffs well. A finding is known again by its structure, which survives new
names; else by its names, which survive new weights. Each line stands for one finding.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from onnxlint_q.errors import UsageError
from onnxlint_q.finding import Finding
from onnxlint_q.judge.verdict import Verdict

VERSION = 1
_ACCEPTED = {verdict.value: verdict for verdict in (Verdict.BREAKS, Verdict.DEGRADES)}
_LONGEST = 200
"""Characters of a node's name, which is for people to read."""


@dataclass(frozen=True, slots=True, order=True)
class Known:
    """One finding that is known.

    Attributes:
        code: of its rule.
        node: what to call the place.
        fingerprint, structure: as of a finding.
    """

    code: str
    node: str
    fingerprint: str
    structure: str


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What is known of one model.

    Attributes:
        findings: in order.
        verdicts: by scheme, those that fail no build: breaks or degrades.
        calibrated: data was run when this was written, so a run without data cannot tell that something is gone.
    """

    findings: tuple[Known, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    calibrated: bool = False

    def matched(self, findings: Sequence[Finding]) -> tuple[tuple[Known | None, ...], tuple[Known, ...]]:
        """For each finding the line that stands for it, if one does; and the lines that stand for none.

        What both identities agree on goes first, so that a name that an export has given to another place takes no line
        away from the place that it was written for.
        """
        left = dict.fromkeys(range(len(self.findings)))
        found: list[Known | None] = [None] * len(findings)
        for keys in (("fingerprint", "structure"), ("structure",), ("fingerprint",)):
            lines: dict[tuple[str, ...], list[int]] = {}
            for index in reversed(left):
                lines.setdefault(_identity(self.findings[index], keys), []).append(index)
            for place, finding in enumerate(findings):
                same = lines.get(_identity(finding, keys))
                if found[place] is None and same:
                    index = same.pop()
                    found[place] = self.findings[index]
                    del left[index]
        return tuple(found), tuple(self.findings[index] for index in left)

    def accepts(self, scheme: str, verdict: Verdict | None) -> bool:
        """Whether a verdict that fails a build is no worse than the one that is known."""
        known = self.verdicts.get(scheme)
        return known is not None and verdict is not None and verdict.decided and verdict.rank >= known.rank


def line_of(finding: Finding) -> Known:
    """The line that stands for a finding."""
    return Known(finding.code, finding.location.label[:_LONGEST], finding.fingerprint, finding.structure)


def known_model(findings: Iterable[Finding], verdicts: Mapping[str, Verdict | None], calibrated: bool) -> KnownModel:
    """What there is to know of a model with these findings and verdicts."""
    lines = (line_of(one) for one in findings if one.counts)
    failing = {name: verdict for name, verdict in sorted(verdicts.items()) if verdict in _ACCEPTED.values()}
    return KnownModel(tuple(sorted(lines)), {n: v for n, v in failing.items() if v is not None}, calibrated)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of models, by their path from the baseline's folder, with `/`."""

    models: Mapping[str, KnownModel] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What it holds: `12 findings and 1 verdict of 3 models`."""
        held = (
            (sum(len(model.findings) for model in self.models.values()), "finding"),
            (sum(len(model.verdicts) for model in self.models.values()), "verdict"),
            (len(self.models), "model"),
        )
        findings, verdicts, models = (f"{number} {what}{'s' * (number != 1)}" for number, what in held)
        return f"{findings} and {verdicts} of {models}"

    def text(self) -> str:
        """The file: one line a finding, models and findings sorted."""
        models = ",\n".join(_model_text(name, model) for name, model in sorted(self.models.items()))
        return f'{{\n "version": {VERSION},\n "models": {{\n{models}\n }}\n}}\n' if models else _EMPTY


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file.

    Raises:
        UsageError: it is not there, or is none.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"baseline {path}: there is no such file; make it with --write-baseline {path}, or take it out of the "
            "configuration"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"baseline {path}: cannot be read as JSON ({error})") from error
    try:
        return _parsed(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"baseline {path}: is no baseline of version {VERSION} ({type(error).__name__}: {error}); make it anew "
            "with --write-baseline"
        ) from error


def name_from(folder: Path, model: Path) -> str:
    """The path of a model from a folder, with `/`. No link is followed."""
    here, there = folder.absolute(), model.absolute()
    try:
        return Path(os.path.relpath(there, here)).as_posix()
    except ValueError:  # another drive
        return there.as_posix()


_EMPTY = f'{{\n "version": {VERSION},\n "models": {{}}\n}}\n'


def _identity(of: Known | Finding, keys: Sequence[str]) -> tuple[str, ...]:
    return (of.code, *(getattr(of, key) for key in keys))


def _model_text(name: str, model: KnownModel) -> str:
    verdicts = json.dumps({scheme: verdict.value for scheme, verdict in sorted(model.verdicts.items())})
    lines = ",\n".join(f"    {json.dumps(asdict(line))}" for line in sorted(model.findings))
    findings = f"[\n{lines}\n   ]" if lines else "[]"
    return (
        f"  {json.dumps(name)}: {{\n"
        f'   "calibrated": {json.dumps(model.calibrated)},\n'
        f'   "verdicts": {verdicts},\n'
        f'   "findings": {findings}\n'
        "  }"
    )


def _parsed(document: Any) -> Baseline:
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r}")
    return Baseline({str(name): _model(held) for name, held in document["models"].items()})


def _model(held: Any) -> KnownModel:
    return KnownModel(
        tuple(_lines(held["findings"])),
        {str(scheme): _ACCEPTED[word] for scheme, word in held["verdicts"].items()},
        bool(held["calibrated"]),
    )


def _lines(held: Any) -> Iterator[Known]:
    names = [known.name for known in fields(Known)]
    for line in held:
        values = [line[name] for name in names]
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"a finding that is no text: {line!r}")
        yield Known(*values)
