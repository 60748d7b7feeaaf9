"""The first screen: one screen, whole words, each damage once; why, and what to do, as the figures have it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import samples
from conftest import FIXTURES
from samples import CHANNEL, TENSOR

from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.finding import Claim, Evidence, Finding, Requantisation, Severity, Subject
from onnxlint_q.judge.config import Overrides
from onnxlint_q.judge.verdict import Chances
from onnxlint_q.report import ReportFormat, digest, render, words
from onnxlint_q.report.formats import Look
from onnxlint_q.report.front import actions, reasons
from onnxlint_q.report.front.decision import Call, decide
from onnxlint_q.report.html.page import pages
from onnxlint_q.workflow import check as workflow
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import Basis, ModelResult, Run, SchemeResult, TensorRole, TensorRow, Verdict

MODELS = [path.stem for path in sorted((FIXTURES / "models").glob("*.onnx"))]
DATA = FIXTURES / "data" / "calibration.npz"
CALIBRATED = ("depthwise_spread", "near_zero_variance", "healthy_resnet", "unknown_domain")
LINES = 40


@cache
def checked(name: str, *, calibrated: bool = False) -> ModelResult:
    source = open_source(str(DATA), preset("raw"))
    (job,) = workflow.plan([FIXTURES / "models" / f"{name}.onnx"], Overrides())
    request = CheckRequest(DataRequest(source, 8) if calibrated else None)
    return workflow.lint(job.path, job.rules, job.config, request)


def full(model: ModelResult, *, verbose: bool = False, width: int = 100) -> str:
    return render(Run((model,)), ReportFormat.FULL, Look(width, verbose=verbose))


def runs() -> Iterator[ModelResult]:
    for name in MODELS:
        yield checked(name)
    for name in CALIBRATED:
        yield checked(name, calibrated=True)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_one_screen(name: str) -> None:
    assert full(checked(name)).count("\n") <= LINES


@pytest.mark.parametrize("name", CALIBRATED)
def test_a_calibrated_model_takes_one_screen(name: str) -> None:
    assert full(checked(name, calibrated=True)).count("\n") <= LINES


@pytest.mark.parametrize("name", samples.ALL)
def test_whatever_is_in_a_run_takes_one_screen(name: str) -> None:
    for model in samples.ALL[name]().models:
        assert full(model).count("\n") <= LINES


@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize("name", samples.ALL)
def test_the_decision_stands_on_top_in_the_words_of_the_page(name: str, width: int) -> None:
    run = samples.ALL[name]()
    for model, page in zip(run.models, pages(run), strict=True):
        for verbose in (False, True):
            _, _, told = full(model, verbose=verbose, width=width).partition("\n\n")
            said, _, _ = told.partition("\n  ")
            assert max(map(len, said.splitlines())) <= width
            assert " ".join(said.split()).startswith(page.headline)


def test_why_a_good_verdict_is_not_to_be_shipped_stands_beside_the_call() -> None:
    (model,) = samples.found_nothing(Verdict.SURVIVES).models
    unlikely = replace(model.schemes[0], basis=Basis.FORECAST, chances=Chances(0.8, 0.2, 0.0))
    told = " ".join(full(replace(model, schemes=(unlikely,))).split())
    assert f"Unsure about {unlikely.scheme}. Under 85 % is not enough to ship on: run it on data" in told


def test_what_the_forecast_cannot_follow_is_not_shipped_on_it() -> None:
    sure = Chances(0.99, 0.01, 0.0)
    followed = SchemeResult("int8-per-tensor", Verdict.SURVIVES, 40.0, Basis.FORECAST, chances=sure)
    assert decide(followed, None).call is Call.SHIP
    made_up = decide(replace(followed, unfollowed=True), None)
    assert made_up.call is Call.UNSURE and "cannot follow every operator" in made_up.but


def test_advice_that_points_at_layers_names_them_and_a_call_that_names_nodes_does_not_again() -> None:
    (model,) = samples.large().models
    others = [one for one in model.findings if one.code == "QW001"]
    one, *more = (replace(finding, remedy="Equalise the layer with its neighbours.") for finding in others[:5])
    names = list(dict.fromkeys(words.name(finding.location.label, 60) for finding in (one, *more)))
    told = " ".join(full(replace(model, findings=(one, *more))).split())
    assert f"This is about {', '.join(names[:3])} and {len(names) - 3} more. (QW001)" in told
    assert f"This is about {names[0]}. (QW001)" in " ".join(full(replace(model, findings=(one,))).split())
    named = replace(one, nodes_to_exclude=("conv",), snippet="quantize_static(..., nodes_to_exclude=['conv'])")
    assert "This is about" not in full(replace(model, findings=(named,)))


def test_a_quantised_file_is_compared_before_remarks_on_it_are_followed_and_after_faults() -> None:
    (model,) = samples.quantised().models
    fault = replace(samples.static("conv"), code="QP004", severity=Severity.WARNING, remedy="Store the bias again.")
    remark = replace(samples.static("conv"), code="QR004", severity=Severity.INFO, remedy="Quantise again with uint8.")

    def told(*findings: Finding) -> list[str]:
        return [action.text.split()[0] for action in actions(replace(model, findings=findings))]

    assert told(remark) == ["Compare", "Quantise"]
    assert told(fault, remark) == ["Store", "Compare", "Quantise"]


def test_more_than_fits_takes_one_screen_and_no_sentence_is_cut() -> None:
    (model,) = samples.large().models
    long = "One sentence that says what is wrong with this layer and goes on for more than a line of a terminal. "
    findings = [
        replace(samples.static(f"bn{n}"), code=f"QZ{n:03}", name=f"rule-{n}", message=long * 3, remedy=long * 3)
        for n in range(60)
    ]
    call = "quantize_static(..., nodes_to_exclude=[\n" + "    'conv',\n" * 60 + "])"
    remedies = tuple(replace(remedy, snippet=call) for remedy in samples.remedied().models[0].remedies)
    text = full(replace(model, findings=tuple(findings), remedies=remedies, notes=(long,) * 30))
    assert text.count("\n") <= LINES
    assert "…" not in text and "The call is in --verbose." in text
    assert "QZ003" in text and text.rstrip().endswith("in 1 model, 1 suppressed")


def test_messages_are_whole_and_stand_once() -> None:
    for model in runs():
        said = " ".join(full(model).split())
        assert "…" not in said
        for group in digest.group_by_damage(digest.counted(model.findings)):
            assert said.count(" ".join(words.shown(group.findings[0].message).split())) <= 1


def test_each_group_names_the_command_that_explains_it() -> None:
    for model in runs():
        text = full(model)
        for group in digest.group_by_damage(digest.counted(model.findings)):
            (title,) = (line for line in text.splitlines() if line.endswith(f"onnxlint-q rule {group.code}"))
            assert f"{group.code} {group.name}" in title


def test_verbose_has_every_finding_that_counts() -> None:
    for model in runs():
        _, _, text = full(model, verbose=True).partition("\nFindings  ")
        for group in digest.group_by_damage(digest.counted(model.findings)):
            block = text.split(f" {group.code} {group.name} ", 1)[1].split("onnxlint-q rule ")[1]
            for index, finding in enumerate(group.findings):
                assert words.brief_place(finding.location, 56) in block
                assert all(other.code in block for other in group.same_as(index))


def test_terms_are_defined_where_they_are_used_and_nowhere_else() -> None:
    for model in runs():
        text = full(model)
        body, _, end = text.rpartition("\n\n")
        assert ("dB: SQNR" in end) is bool(re.search(r"\bdB\b", body))
        assert ("Code: one of" in end) is bool(re.search(r"\bcodes?\b", body))


def test_a_layer_stands_once_for_one_damage() -> None:
    model = checked("depthwise_spread", calibrated=True)
    text = full(model)
    assert {"QW001", "QW003"} <= {code for finding in model.findings for code in finding.also}
    titles = [line.split()[1] for line in text.splitlines() if "onnxlint-q rule" in line]
    assert titles.count("QB002") == 1 and not {"QW001", "QW003"} & set(titles)


def measured(*rows: TensorRow, findings: tuple[Finding, ...] = ()) -> ModelResult:
    (model,) = samples.small().models
    result = SchemeResult(TENSOR, Verdict.BREAKS, 2.0, Basis.MEASURED, tensors=rows, tensors_basis=Basis.MEASURED)
    return replace(model, schemes=(result,), findings=findings)


def weight(name: str, share: float) -> TensorRow:
    return TensorRow(f"{name}/bn_out", Subject.WEIGHT, name, "Conv", 5.0, share)


def test_why_is_what_findings_say_of_the_tensors_that_make_the_noise() -> None:
    findings = (samples.spread("a", 3.0, Evidence.CONFIRMED), samples.spread("b", 2.0, Evidence.CONFIRMED))
    findings = (findings[0], replace(findings[1], message="Channel 3 is wide."))
    model = measured(weight("a", 0.2), weight("b", 0.6), weight("c", 0.2), findings=findings)
    (why,) = reasons(model)
    assert why.title == "Why int8-per-tensor breaks"
    said = "QW001 unequal-channel-ranges at 2 places makes 80 % of the noise, most at b. Channel 3 is wide."
    assert why.sentences == (said,)


def test_why_says_what_no_rule_explains() -> None:
    told = (samples.spread("a", 3.0, Evidence.CONFIRMED),)
    _, rest = reasons(measured(weight("a", 0.3), weight("b", 0.6), weight("c", 0.1), findings=told))[0].sentences
    assert rest == "No rule explains the other 70 %; most of that is the weight of b (60 %)."
    (none,) = reasons(measured(weight("b", 0.6), weight("c", 0.4)))
    assert none.sentences == ("No rule explains it.", "60 % of the noise comes from the weight of b.")
    (three,) = reasons(measured(weight("b", 0.3), weight("c", 0.2), weight("d", 0.2), weight("e", 0.3)))
    said = "60 % of the noise comes from two weights: the weight of b (30 %) and the weight of e (30 %)."
    assert three.sentences[1] == said


def activation(name: str, share: float, role: TensorRole, depth: float) -> TensorRow:
    return TensorRow(name, Subject.ACTIVATION, name, "Add", 5.0, share, role, depth)


def test_noise_that_is_spread_is_told_by_what_most_of_it_has_in_common() -> None:
    sums = [activation(f"sum{n}", 0.04, TensorRole.SUM, n / 20) for n in range(20)]
    weights = [replace(weight(f"w{n}", 0.02), depth=1.0) for n in range(10)]
    assert reasons(measured(*sums, *weights))[0].sentences[1:] == (
        "The noise is spread over 25 tensors; the largest part is the result of Add sum0 (4 %).",
        "80 % of it comes from sums of branches.",
    )
    near = [activation(f"a{n}", 0.04, list(TensorRole)[n % 10], 0.5 + n / 1000) for n in range(20)]
    far = [activation(f"b{n}", 0.02, list(TensorRole)[n % 10], n / 20) for n in range(10)]
    assert reasons(measured(*near, *far))[0].sentences[2:] == ("60 % of it is made between a0 and a14.",)


def test_a_finding_about_another_scheme_or_little_of_the_noise_explains_nothing() -> None:
    finding = samples.spread("a", 3.0, Evidence.CONFIRMED)
    other = replace(finding, claim=Claim(Subject.WEIGHT, "a/bn_out", CHANNEL, 10.0))
    for model in (
        measured(weight("a", 0.9), weight("b", 0.1), findings=(other,)),
        measured(weight("a", 0.05), weight("b", 0.95), findings=(finding,)),
    ):
        assert reasons(model)[0].sentences[0] == "No rule explains it."


def test_a_forecast_is_told_as_one_and_schemes_with_one_reason_share_it() -> None:
    (model,) = samples.forecast_only(findings=False).models
    schemes = tuple(
        SchemeResult(
            scheme,
            Verdict.BREAKS,
            2.0,
            Basis.FORECAST,
            tensors=(
                activation("a/Add", share, TensorRole.SUM, 0.1),
                activation("b/Add", share, TensorRole.SUM, 0.2),
                weight("w", 1 - 2 * share),
            ),
            tensors_basis=Basis.FORECAST,
        )
        for scheme, share in ((TENSOR, 0.49), (CHANNEL, 0.495))
    )
    (why,) = reasons(replace(model, schemes=schemes))
    assert why.title == "Why int8-per-tensor and int8-per-channel lose accuracy"
    said = "98 % of the noise comes from two sums of branches: the result of a/Add (49 %) and the result of b/Add"
    assert why.sentences == ("No rule explains it.", f"By the forecast, {said} (49 %).")


def test_why_of_a_model_that_survives_is_not_asked_but_an_error_is_told() -> None:
    (model,) = samples.found_nothing(Verdict.SURVIVES).models
    assert reasons(model) == ()
    (why,) = reasons(replace(model, findings=(samples.static("bn", Severity.ERROR),)))
    assert why.title == "What is wrong" and why.sentences[0].endswith("two readers. (QG004)")


def test_wrong_data_is_told_before_what_was_measured_on_it() -> None:
    (model,) = samples.remedied().models
    read = replace(samples.static("data"), code="QD009", evidence=Evidence.CONFIRMED, remedy="Mend the data.")
    for finding in (read, replace(samples.static("data", Severity.ERROR), code="QD009", remedy="Mend the data.")):
        wrong = replace(model, findings=(*model.findings, finding))
        assert reasons(wrong)[0].title == "What is wrong" and actions(wrong)[0].codes == ("QD009",)
    measured_db = replace(read, measured_db=9.0)
    for finding in (replace(read, severity=Severity.INFO), measured_db, samples.static("bn")):
        assert reasons(replace(model, findings=(finding,)))[0].title.startswith("Why ")


def test_the_last_link_of_a_chain_says_what_comes_of_it() -> None:
    (first, *_) = samples.chained().models[0].findings
    (why,) = reasons(measured(weight("dw0", 0.9), weight("b", 0.1), findings=(first,)))
    assert why.sentences[1:] == (samples.CHAIN[1],)
    (why,) = reasons(measured(weight("dw0", 0.9), weight("b", 0.1), findings=(replace(first, cure=None),)))
    assert why.sentences[1:] == (samples.CHAIN[2],)


def test_what_was_tried_comes_before_advice_and_errors_before_both() -> None:
    (model,) = samples.remedied().models
    wrong = replace(samples.static("data", Severity.ERROR), code="QD009", remedy="Mend the data.")
    told = actions(replace(model, findings=(*model.findings, wrong)))
    assert told[0].codes == ("QD009",)
    assert told[1].text.startswith("Give every channel its own scale") and told[1].snippet
    assert [action.codes for action in told[3:]] == [("QW001",), ("QG004",)]


def test_the_same_advice_and_the_same_call_are_one_thing_to_do() -> None:
    (model,) = samples.remedied().models
    first = replace(samples.spread("a", 3.0, Evidence.CONFIRMED), snippet=model.remedies[0].snippet)
    second, third = (replace(samples.static(f"bn{n}"), code=f"QG00{n}", remedy="Fold it. Then wait.") for n in (1, 2))
    told = actions(replace(model, findings=(first, second, third)))
    assert [action.codes for action in told] == [("QW001",), (), ("QG001", "QG002")]


def test_another_scheme_is_advised_where_it_survives_and_nothing_else_says_so() -> None:
    (model,) = samples.found_nothing(Verdict.BREAKS).models
    switch, run = actions(model)
    assert switch.text == "Quantise as int8-per-channel instead of int8-per-tensor."
    assert run.text.startswith("Run it on your data (--calibrate PATH).")
    finer = replace(samples.spread("a", None, Evidence.UNTESTED), change=Requantisation(per_channel=True))
    assert not any("instead of" in action.text for action in actions(replace(model, findings=(finer,))))
    assert actions(samples.found_nothing(Verdict.SURVIVES).models[0]) == ()


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, "Fold it."), (20, "Fold it. Then wait."), (200, "Fold it. Then wait. It is 1.5 dB, e.g. here.")],
)
def test_an_opening_is_whole_sentences(limit: int, expected: str) -> None:
    assert words.opening("Fold it. Then wait. It is 1.5 dB, e.g. here.", limit) == expected


def test_a_text_is_cut_between_words() -> None:
    assert words.shorten("one two three", 10) == "one two …"
    assert words.shorten("one two three", 9) == "one two …"
    assert words.shorten("x" * 300, 10) == "x" * 8 + " …"
