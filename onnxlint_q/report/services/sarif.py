"""`sarif`: SARIF 2.1.0 as GitHub code scanning takes it.

GitHub reads the first location of a result only and wants a line of a file there, so every result stands on line 1 of
its model, and its place in the graph is a logical location. It shows every result as open, whatever its `kind`, so what
is not to be acted on is no result: a refuted finding and a scheme that the model survives are counted with the model's
artifact. What a reader has to know of a verdict is a result of the rule `verdict`.

The same run gives the same bytes: no time, no machine, no path but the one the user typed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from urllib.parse import quote

from onnxlint_q.finding import Confidence, Evidence, Finding, Location, Severity, Suppression, Suppressor
from onnxlint_q.report import words
from onnxlint_q.report.digest import (
    alarms,
    counted,
    finding_sentences,
    known_alarms,
    page_of,
    path_from_here,
    verdict_sentences,
)
from onnxlint_q.report.documents.findings import finding_document
from onnxlint_q.report.documents.schemes import probability_document
from onnxlint_q.report.documents.values import Json, indented, number, text, tool
from onnxlint_q.workflow.results import Failure, ModelResult, RuleText, Run, SchemeResult

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MOST_RESULTS = 5000
"""Results of a run that GitHub keeps."""
LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
PROBLEM = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "recommendation"}
TAGS: Sequence[Json] = ("onnx", "quantization")
LONGEST_DESCRIPTION = 1024
LONGEST = 4096
"""Characters of each string of a property bag; the model is untrusted and its names may be megabytes long."""
_SOURCES = "%SRCROOT%"
_KEPT = ("confidence", "evidence", "measured_sqnr_db", "metrics", "remedy", "snippet", "causes", "note")
_VERDICT = RuleText(
    code="verdict",
    name="scheme-verdict",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    text="""\
The model does not survive a quantisation scheme, or nobody can tell whether it does.

A verdict is for one scheme, with everything quantised, and it is that of the worst output. Class scores are judged by
how often top-1 agrees with the float model, everything else by SQNR.

## What to do
The findings on the same model say where the loss comes from. Do what they say, or choose another scheme. `--calibrate`
measures what was only forecast, and tries remedies. Levels that suit the model stand under `[verdict]` in the
configuration; `--scheme` names the schemes to judge.
""",
)


@dataclass(frozen=True, slots=True)
class _Result:
    """One result before its rule has an index, and before others may turn out to be of the same place."""

    rule: RuleText
    severity: Severity
    path: str
    fingerprint: str
    content: dict[str, Json]
    page: str = ""


def render(run: Run) -> str:
    """The report, indented by one space so that it reads and diffs line by line."""
    return indented(document(run))


def document(run: Run) -> dict[str, Json]:
    """The report as values the json module can write."""
    models = tuple(enumerate(run.models))
    found = [result for index, model in models for result in _verdicts(model, index, alarms(model))]
    found += [result for index, model in models for result in _findings(model, index, counted(model.findings))]
    found.sort(key=lambda result: -result.severity.rank)
    found += [result for index, model in models for result in _suppressed(model, index)]
    kept = found[:MOST_RESULTS]
    rules = {result.rule.code: (result.rule, result.page) for result in kept}
    indices = {code: index for index, code in enumerate(sorted(rules))}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {**tool(), "rules": [_rule(*rules[code]) for code in indices]}},
                "invocations": [
                    {
                        "executionSuccessful": run.trustworthy,
                        "toolExecutionNotifications": list(_notifications(run, len(found) - len(kept))),
                    }
                ],
                "originalUriBaseIds": {
                    _SOURCES: {"description": _message("The folder that onnxlint-q was started in.")}
                },
                "artifacts": [_artifact(model) for model in run.models],
                "results": list(_told(kept, indices)),
            }
        ],
    }


def _told(results: Iterable[_Result], indices: Mapping[str, int]) -> Iterator[Json]:
    """The results, with fingerprints that tell them apart.

    GitHub takes those of one `primaryLocationLineHash` for one alert, and makes that of line 1 where there is none.
    """
    seen: Counter[tuple[str, str, str]] = Counter()
    for result in results:
        identity = (result.rule.code, path_from_here(result.path), result.fingerprint)
        seen[identity] += 1
        yield {
            "ruleId": text(result.rule.code),
            "ruleIndex": indices[result.rule.code],
            "level": LEVEL[result.severity],
            **result.content,
            "partialFingerprints": {
                "primaryLocationLineHash": f"{result.fingerprint}:{seen[identity]}",
                "onnxlintq/v1": result.fingerprint,
            },
        }


def _verdicts(model: ModelResult, artifact: int, judged: Iterable[tuple[SchemeResult, Severity]]) -> Iterator[_Result]:
    for result, severity in judged:
        identity = f"{_VERDICT.code}\0{result.scheme}".encode("utf-8", "surrogatepass")
        fingerprint = hashlib.sha256(identity).hexdigest()[:16]
        yield _Result(_VERDICT, severity, model.path, fingerprint, _verdict(model, artifact, result))


def _suppressed(model: ModelResult, artifact: int) -> Iterator[_Result]:
    results = _findings(model, artifact, model.suppressed)
    for result, finding in zip(results, model.suppressed, strict=True):
        yield _with(result, _suppression(finding.suppression))
    for result in _verdicts(model, artifact, known_alarms(model)):
        yield _with(result, {"kind": "external"})


def _with(result: _Result, suppression: Json) -> _Result:
    return replace(result, content={**result.content, "suppressions": [suppression]})


def _suppression(why: Suppression | None) -> Json:
    """Who said that a finding is known, and why."""
    if why is None:
        return {"kind": "external"}
    kind = "inSource" if why.by is Suppressor.MODEL else "external"
    reason = {"justification": words.shown(why.reason)} if why.reason else {}
    return {"kind": kind, **reason, "properties": {"by": why.by.value, "where": words.shown(why.where)}}


def _findings(model: ModelResult, artifact: int, findings: Iterable[Finding]) -> Iterator[_Result]:
    documented = {rule.code: rule for rule in model.rules}
    for finding in findings:
        rule = documented.get(finding.code) or _undocumented(finding)
        place = _place(finding.location) if not rule.about_run else []
        said = finding_document(finding)
        content: dict[str, Json] = {
            "message": _message("\n".join(finding_sentences(model, finding))),
            "locations": [{**_on_line_1(model.path, artifact), "logicalLocations": place}],
            "properties": {key: _bounded(said[key]) for key in _KEPT},
        }
        yield _Result(rule, finding.severity, model.path, finding.fingerprint, content, page_of(model, finding))


def _undocumented(finding: Finding) -> RuleText:
    """A plug-in may make findings under a code that no rule has."""
    return RuleText(finding.code, finding.name, finding.severity, finding.confidence, finding.name or finding.code)


def _verdict(model: ModelResult, artifact: int, result: SchemeResult) -> dict[str, Json]:
    return {
        "message": _message("\n".join(verdict_sentences(model, result))),
        "locations": [_on_line_1(model.path, artifact)],
        "properties": {
            "scheme": _bounded(result.scheme),
            "verdict": words.verdict(result.verdict),
            "basis": result.basis.value,
            "output_sqnr_db": number(result.output_sqnr_db),
            "agreement": number(result.agreement),
            "probability": probability_document(result.chances),
            "interval_db": None if result.interval_db is None else [number(end) for end in result.interval_db],
        },
    }


def _rule(rule: RuleText, page: str) -> Json:
    return {
        "id": text(rule.code),
        "name": text(rule.name),
        "shortDescription": _message(words.shorten(rule.summary, LONGEST_DESCRIPTION)),
        "fullDescription": _message(words.shorten(rule.description, LONGEST_DESCRIPTION)),
        "help": {**_message(rule.text), "markdown": _braced(text(rule.text))},
        **({"helpUri": text(page)} if page else {}),
        "defaultConfiguration": {"level": LEVEL[rule.severity]},
        "properties": {
            "tags": [*TAGS],
            "precision": rule.confidence.value,
            "problem.severity": PROBLEM[rule.severity],
        },
    }


def _artifact(model: ModelResult) -> Json:
    return {
        "location": _address(model.path),
        "roles": ["analysisTarget"],
        **({"hashes": {"sha-256": model.sha256}} if model.sha256 else {}),
        "properties": {
            "format": _bounded(model.format),
            "opset": model.opset,
            "verdicts": {text(result.scheme): words.verdict(result.verdict) for result in model.schemes},
            "refuted": model.count(Evidence.REFUTED),
        },
    }


def _notifications(run: Run, cut: int) -> Iterator[Json]:
    """What kept the answer from being whole, then what the reader must know of a model, then its notes."""
    for failure in run.failures:
        yield _notification(Severity.ERROR, failure.message, failure)
    if cut:
        said = f"{cut} more results, the least severe, were left out: GitHub keeps {MOST_RESULTS} of a run."
        yield _notification(Severity.WARNING, said)
    for model in run.models:
        for warning in words.warnings(model):
            yield _notification(Severity.WARNING, warning, model)
        for note in model.notes:
            yield _notification(Severity.INFO, note, model)


def _notification(severity: Severity, said: str, about: Failure | ModelResult | None = None) -> Json:
    where: Json = [_on_line_1(about.path)] if about is not None else []
    return {"level": LEVEL[severity], "message": _message(words.shown(said)), "locations": where}


def _message(said: str) -> dict[str, Json]:
    """Plain text in which no viewer finds a link; sections 3.11.5 and 3.11.6 of the standard."""
    return {"text": _braced(text(said)).replace("](", "] (")}


def _braced(message: str) -> str:
    """A message may have placeholders, `{0}`, so braces that are meant are written twice."""
    return message.replace("{", "{{").replace("}", "}}")


def _on_line_1(path: str, artifact: int | None = None) -> dict[str, Json]:
    index: dict[str, Json] = {} if artifact is None else {"index": artifact}
    region: Json = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}
    return {"physicalLocation": {"artifactLocation": {**_address(path), **index}, "region": region}}


def _address(path: str) -> dict[str, Json]:
    seen = path_from_here(path) or "(no name)"
    uri = quote(seen, errors="backslashreplace")
    if PurePath(seen).is_absolute():
        return {"uri": f"file://{uri}" if uri.startswith("/") else f"file:///{uri}"}
    outside = seen == ".." or seen.startswith("../")
    return {"uri": uri} if outside else {"uri": uri, "uriBaseId": _SOURCES}


def _place(location: Location) -> list[Json]:
    """The node, its tensor and their graph, as far as there are such."""
    graph = words.name(location.graph)
    named = [("node", location.node), ("tensor", location.output)]
    return [
        *(_logical(words.name(name), f"{graph}/{words.name(name)}", kind) for kind, name in named if name),
        _logical(graph, graph, "graph"),
    ]


def _logical(name: str, path: str, kind: str) -> Json:
    return {"name": name, "fullyQualifiedName": path, "kind": kind}


def _bounded(value: Json) -> Json:
    """The same with every string shortened to what a report for people could hold."""
    if isinstance(value, str):
        return words.shorten(text(value), LONGEST)
    if isinstance(value, Mapping):
        return {words.shorten(key, LONGEST): _bounded(inner) for key, inner in value.items()}
    return [_bounded(inner) for inner in value] if isinstance(value, list) else value
