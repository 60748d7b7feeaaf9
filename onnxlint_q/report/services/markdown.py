"""`markdown`: a comment on a pull request, or the summary of a step (`markdown=$GITHUB_STEP_SUMMARY`).

The first line is a comment by which a bot finds the report again that it has to replace. The text is as long as GitHub
takes it in a comment, whatever the models are: what does not fit is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from onnxlint_q.finding import Finding
from onnxlint_q.report import words
from onnxlint_q.report.digest import Fault, faults, help_of, page_of, path_from_here, summary
from onnxlint_q.report.front import actions, reasons
from onnxlint_q.report.words import markdown, markdown_block, markdown_code
from onnxlint_q.workflow.results import Failure, ModelResult, Run, SchemeResult

MARK = "<!-- onnxlint-q -->"
LONGEST = 60_000
"""Characters; GitHub takes 65,536 in a comment, and more in a summary."""
_ROWS = 20
"""Findings of a model that are listed."""
_FIRST = 3
"""Things to do that are told."""
_LONGEST_CALL = 600


def render(run: Run) -> str:
    """The summary, then models that could not be linted, then the others, worst first."""
    said = summary(run)
    verdict = "fails" if run.fails or not run.trustworthy else "passes"
    head = f"{MARK}\n### onnxlint-q: {verdict}\n\n{markdown(f'{said[:1].upper()}{said[1:]}')}.\n"
    models = sorted(run.models, key=lambda model: not model.fails)
    sections = [*(_failure(one) for one in run.failures), *("\n".join(_model(model)) for model in models)]
    return _joined(head, sections)


def _joined(head: str, sections: Sequence[str]) -> str:
    """As many sections as fit."""
    text, left = head, len(sections)
    for section in sections:
        if len(text) + len(section) > LONGEST:
            break
        text += f"\n{section}\n"
        left -= 1
    return text if not left else f"{text}\nThe report is cut: {words.count(left, 'more model')}.\n"


def _failure(failure: Failure) -> str:
    return f"#### {_path(failure.path)}\n\n✖ Could not be linted: {markdown(words.shown(failure.message))}"


def _model(model: ModelResult) -> Iterator[str]:
    yield f"#### {_path(model.path)}\n"
    yield f"{markdown(words.headline(model))}.\n"
    for warning in words.warnings(model):
        yield f"**{markdown(warning)}**\n"
    if model.schemes:
        yield from _table(("scheme", "verdict", "figures"), (_verdict(model, result) for result in model.schemes))
    for why in reasons(model)[:2]:
        yield f"**{markdown(why.title)}:** {markdown(' '.join(why.opening(_FIRST).sentences))}\n"
    yield from _to_do(model)
    yield from _findings(model)
    if model.suppressed:
        yield f"<details><summary>{len(model.suppressed)} suppressed</summary>\n"
        rows = ((_rule(model, one), _place(one), markdown(words.suppressed(one))) for one in model.suppressed[:_ROWS])
        yield from _table(("rule", "where", "why"), rows)
        yield from _more(len(model.suppressed) - _ROWS)
        yield "</details>\n"


def _verdict(model: ModelResult, result: SchemeResult) -> Sequence[str]:
    known = " (known)" if result.scheme in model.accepted else ""
    figures = "; ".join((words.brief_reason(result), *words.weakness(result)))
    return markdown_code(words.name(result.scheme, 40)), f"{words.marked_verdict(result)}{known}", markdown(figures)


def _to_do(model: ModelResult) -> Iterator[str]:
    for number, action in enumerate(actions(model)[:_FIRST], start=1):
        codes = f" ({', '.join(action.codes)})" if action.codes else ""
        yield f"{number}. {markdown(action.told(240) + codes)}"
        if action.snippet and len(action.snippet) <= _LONGEST_CALL:
            yield markdown_block("\n".join(map(words.visible, action.snippet.splitlines())), "   ")
    yield ""


def _findings(model: ModelResult) -> Iterator[str]:
    told = faults(model.findings)
    if told:
        yield from _table(("", "rule", "where", "what"), (_fault(model, fault) for fault in told[:_ROWS]))
        yield from _more(len(told) - _ROWS)
    else:
        said = words.nothing_found(model)
        yield f"{markdown(f'{said[:1].upper()}{said[1:]}')}.\n"


def _fault(model: ModelResult, fault: Fault) -> Sequence[str]:
    finding = fault.findings[0]
    return (
        words.SEVERITY_MARK[fault.severity],
        _rule(model, finding),
        _place(finding),
        markdown(words.shown(finding.message, 300)),
    )


def _rule(model: ModelResult, finding: Finding) -> str:
    title = f"{words.shown(finding.code, 20)} {words.shown(finding.name, 60)}"
    page = page_of(model, finding)
    return (
        f"[{markdown(title)}](<{page}>)" if page else f"{markdown(title)}<br>{markdown_code(help_of(model, finding))}"
    )


def _place(finding: Finding) -> str:
    return markdown_code(words.name(finding.location.label, 80)) or "the model"


def _path(path: str) -> str:
    return markdown_code(words.name(path_from_here(path), 160)) or "(no name)"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _more(hidden: int) -> Iterator[str]:
    if hidden > 0:
        yield f"and {hidden} more\n"
