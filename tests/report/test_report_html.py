from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest
import samples

from onnxlint_q.finding import Severity, Suppression, Suppressor
from onnxlint_q.judge.verdict import Chances
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.formats import Look
from onnxlint_q.report.html import charts, environment
from onnxlint_q.report.html.charts import Point
from onnxlint_q.report.html.published import published
from onnxlint_q.workflow.results import Basis, CalibrationSummary, Failure, Run, Verdict, VerdictLevels

VOID = {"meta", "input", "br", "wbr", "img", "link", "hr"}
RAW = {"script", "style"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


LEVELS = (5.0, 14.0)


def render_html(run: Run) -> str:
    return render(run, ReportFormat.HTML)


class Page(HTMLParser):
    """Fails on tags that do not nest; collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.data = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if identity := dict(attrs).get("id"):
            self.ids.append(identity)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if identity := dict(attrs).get("id"):
            self.ids.append(identity)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and self.tags[-1][1].get("id") == "data":
            self.data += data
        elif not set(self.open) & RAW:
            self.text.append(data)


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return {name: render(make(), ReportFormat.HTML) for name, make in samples.ALL.items()}


@pytest.mark.parametrize("name", samples.ALL)
def test_the_page_is_well_formed_and_its_anchors_are_unique(name: str, rendered: dict[str, str]) -> None:
    page = Page(rendered[name])
    assert len(page.ids) == len(set(page.ids))
    for tag, attributes in page.tags:
        target = attributes.get("href") or ""
        assert target == "" or (tag == "a" and target[1:] in page.ids)
        labelled = attributes.get("aria-labelledby")
        assert labelled is None or labelled in page.ids


@pytest.mark.parametrize("name", samples.ALL)
def test_nothing_is_loaded(name: str, rendered: dict[str, str]) -> None:
    page = Page(rendered[name])
    assert not {"img", "link", "iframe", "object", "embed", "base", "form", "image", "use"} & {t for t, _ in page.tags}
    assert not any("src" in attributes or "srcset" in attributes for _, attributes in page.tags)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    for pattern in (r"https?://", r"url\(", r"@import", r"fetch\(", r"XMLHttpRequest", r"\bimport\("):
        assert not re.search(pattern, rendered[name])
    metas = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert len(metas) == 1
    assert metas[0] is not None
    assert metas[0].startswith(POLICY)


@pytest.mark.parametrize("name", samples.ALL)
def test_the_json_report_is_inside(name: str, rendered: dict[str, str]) -> None:
    told = published(samples.ALL[name]())
    assert json.loads(Page(rendered[name]).data) == json.loads(render(told, ReportFormat.JSON))


def test_hostile_names_are_text(rendered: dict[str, str]) -> None:
    text = rendered["hostile"]
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "</script><" not in text.replace("</script>\n", "")
    assert not any(char in text for char in "\x00\x07\x1b\u202e\u200b\ud800\udc80")
    shown = "".join(page.text)
    assert "<script>alert(1)</script>" in shown
    assert "{{ 7 * 7 }}{% raw %}" in shown
    assert "&lt;b&gt;&amp;" in shown
    assert r"first\nsecond\rthird\tfourth" in shown


def test_verdicts_come_before_findings_and_findings_before_layers(rendered: dict[str, str]) -> None:
    text = rendered["large"]
    order = [text.index(part) for part in ('class="cards"', "<figure", ">Findings", "<table", ">Provenance")]
    assert order == sorted(order)
    shown = " ".join("".join(Page(text).text).split())
    assert "breaks, measured 1.8 dB; same top class as float: 12 %." in shown
    assert "Measured on 16 held-out samples." in shown
    assert "Weakest layer: MobilenetV2/expanded_conv_2/depthwise/Conv2D, 5.8 dB" in shown
    assert "Synthetic" not in shown


def test_every_finding_has_its_anchor_claim_and_remedy(rendered: dict[str, str]) -> None:
    run = samples.large()
    page = Page(rendered["large"])
    for finding in run.models[0].findings:
        assert f"f-{finding.fingerprint}" in page.ids
    shown = "".join(page.text)
    assert "Quantise weights per channel, or equalise the two layers before." in shown
    assert samples.SNIPPET in shown
    assert shown.count("Claim: with only the weight of") == 29


def test_one_damage_is_one_place_with_its_chain_and_the_other_rules_under_it(rendered: dict[str, str]) -> None:
    run, page = samples.chained(), Page(rendered["chained"])
    for finding in run.models[0].findings:
        assert page.ids.count(f"f-{finding.fingerprint}") == 1
    classes = [dict(attributes).get("class") for tag, attributes in page.tags if tag in {"ol", "li", "details"}]
    assert classes.count("place") == 1 and classes.count("causes") == 1 and classes.count("same") == 2
    shown = " ".join("".join(page.text).split())
    assert "Step by step " + " ".join(samples.CHAIN) in shown
    assert "The same damage: QW003 collapsed" in shown and "Eighteen channels are lost." in shown
    assert shown.count("The cure holds.") == 1


def test_remedies_stand_once_between_verdicts_and_findings(rendered: dict[str, str]) -> None:
    page = rendered["remedied"].split('<script type="application/json"')[0]
    assert page.count("nodes_to_exclude=[&#39;stem/Conv&#39;, &#39;stem/Relu&#39;]") == 1
    assert page.index("headline") < page.index(">Do this first<") < page.index("Findings")


def test_why_and_what_to_do_stand_above_the_findings(rendered: dict[str, str]) -> None:
    shown = " ".join("".join(Page(rendered["remedied"]).text).split())
    why, to_do, findings = (shown.index(part) for part in ("Why int8-per-tensor breaks.", "Do this first", "Findings"))
    assert why < to_do < findings
    assert "Give every channel its own scale instead of int8-per-tensor: 4.7 → 18.2 dB" in shown[to_do:findings]


def test_two_findings_with_one_fingerprint_have_two_anchors(rendered: dict[str, str]) -> None:
    fingerprint = samples.hostile().models[0].findings[0].fingerprint
    ids = Page(rendered["hostile"]).ids
    assert {f"f-{fingerprint}", f"f-{fingerprint}-2", f"f-{fingerprint}-3"} <= set(ids)


def test_the_table_has_every_layer_and_marks_the_worst_in_words(rendered: dict[str, str]) -> None:
    text = rendered["small"]
    table = text[text.index("<table") : text.index("</table>")]
    assert table.count('scope="row"') == 4
    assert '<td class="num starts bad" title="measured, under 5 dB">4.7</td>' in table
    assert "<caption>" in table


def test_the_chart_draws_what_is_known(rendered: dict[str, str]) -> None:
    for title in ("SQNR, float against int8", "Weight range", "Average precision of the channels", "Activation range"):
        assert f">{title} <" in rendered["large"]
    assert ">Activation range <" not in rendered["forecast_only"]
    assert ">SQNR, float against int8 <" not in rendered["quantised"]
    # What is known twice is drawn once.
    assert ", measured</title>" in rendered["large"] and ", forecast</title>" not in rendered["large"]


def test_the_page_of_a_large_model_is_small(rendered: dict[str, str]) -> None:
    assert len(rendered["large"].encode()) < 600_000


@pytest.mark.parametrize("name", ["empty", "forecast_only", "quantised", "nothing"])
def test_what_did_not_happen_is_said(name: str, rendered: dict[str, str]) -> None:
    shown = " ".join("".join(Page(rendered[name]).text).split())
    expected = {
        "empty": "1 model could not be linted",
        "forecast_only": "Forecast from the file alone, nothing was run",
        "quantised": "none: no figure was measured",
        "nothing": "perfect match",
    }
    assert expected[name] in shown


FOLDERS = ("/home/somebody/net of mine/", "C:\\Users\\somebody\\", "some/where/else/", "/data/secret/")


def local() -> Run:
    """A run on files whose folders nobody else should see, told wherever a run can tell a path."""
    home, windows, relative, data = FOLDERS
    (model,) = samples.small().models
    calibration = CalibrationSummary(f"{data}photos/", "raw", 8, 4)
    models = [
        replace(model, path=f"{folder}net.onnx", sha256=sha * 64, calibration=calibration)
        for folder, sha in ((home, "1"), (windows, "2"), (relative, "3"))
    ]
    models[0] = replace(models[0], notes=(f"the probe gave nothing: {data}photos/ is small",))
    unusable = replace(models[1].findings[0], message=f"Not run: {data}other/batch.npz is empty")
    models[1] = replace(models[1], calibration=None, findings=(unusable,))
    failures = (
        Failure(f"{home}a.onnx", f"{home}a.onnx: not an ONNX file; export it again"),
        Failure(f"{home}b.onnx", f"{data}photos/cat.jpg: cannot be read as an image"),
    )
    return Run(tuple(models), failures, f"{data}other")


def test_a_page_tells_no_folder_of_the_machine() -> None:
    text = render(local(), ReportFormat.HTML)
    assert not [part for part in ("somebody", "some/where", "/data", "secret") if part in text]
    shown = " ".join("".join(Page(text).text).split())
    assert "net.onnx, net.onnx, net.onnx · INT8 report" in shown and "calibrated on photos: 8 samples" in shown
    assert "the probe gave nothing: photos is small" in shown and "Not run: other/batch.npz is empty" in shown
    assert "a.onnx: not an ONNX file; export it again" in shown and "cat.jpg: cannot be read" in shown


def test_files_of_one_name_are_told_apart_by_their_hash() -> None:
    text = render(local(), ReportFormat.HTML)
    headings = re.findall(r"<h1[^>]*>([^<]*)</h1>", text)
    assert headings == ["net.onnx (11111111)", "net.onnx (22222222)", "net.onnx (33333333)"]
    assert re.findall(r"<h1[^>]*>([^<]*)</h1>", render(samples.small(), ReportFormat.HTML)) == ["small.onnx"]


@pytest.mark.parametrize("report_format", [ReportFormat.FULL, ReportFormat.CONCISE, ReportFormat.JSON])
def test_the_other_formats_tell_paths_as_they_were_typed(report_format: ReportFormat) -> None:
    text = render(local(), report_format)
    typed = (
        json.dumps(f"{folder}net.onnx")[1:-1] if report_format is ReportFormat.JSON else f"{folder}net.onnx"
        for folder in FOLDERS[:3]
    )
    assert all(path in text for path in typed)


@pytest.mark.parametrize(
    ("text", "expected"), [("a/b_c.d:e-f;g", "a/|b_|c.|d:|e-|f;|g"), ("//a__b", "//|a__|b"), ("<a/>", "&lt;a/|&gt;")]
)
def test_names_break_behind_separators_only(text: str, expected: str) -> None:
    made = environment().from_string("{{ text|breakable }}").render(text=text)
    assert made == expected.replace("|", "<wbr>")


def test_a_figure_is_shown_once_the_best_that_is_known() -> None:
    text = render(samples.contested(), ReportFormat.HTML)
    table = text[text.index("<table") : text.index("</table>")]
    rows = [re.findall(r"<td class=\"num[^>]*>([^<]*)</td>", row) for row in table.split("<tr id=")[1:]]
    assert [row[3] for row in rows] == ["33.3", "4.7", "-", "≈24.0", "exact"]
    assert 'title="not measured: the forecast lies below' in table
    assert "11.0" not in table and "forecast: 6.0" not in text and 'data-v="6"' not in table
    assert re.findall(r"<title>([^<]* dB) under [^<]*, (?:measured|forecast)</title>", text) == [
        "stem: 33.3 dB",
        "dw1: 4.7 dB",
        "head: 24.0 dB",
    ]


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_nothing_is_green_unless_every_scheme_survives(verdict: Verdict | None) -> None:
    text = render(samples.found_nothing(verdict), ReportFormat.HTML)
    page = Page(text)
    nothing = [a["class"] for _, a in page.tags if "nothing" in (a.get("class") or "")]
    healthy = verdict is Verdict.SURVIVES
    assert nothing == ["nothing clean" if healthy else "nothing"]
    # One mark is the verdict of the scheme that survives, the other would be that of the findings.
    assert "".join(page.text).count("✔") == (3 if healthy else 1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_of_text_is_at_least_4_5(theme: str) -> None:
    css = files("onnxlint_q.report.html").joinpath("templates/style/palette.css").read_text("utf-8")
    found = re.search(rf"macro {theme}\(\) %}}(.*?){{% endmacro", css, re.DOTALL)
    assert found
    colour = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", found[1]))

    def luminance(code: str) -> float:
        parts = (int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colour[one]), luminance(colour[other])))
        return (high + 0.05) / (low + 0.05)

    for text in ("ink", "soft", "link", "bad", "poor", "good", "info"):
        assert all(contrast(text, ground) >= 4.5 for ground in ("page", "sheet", "inset")), text
    for text in ("bad", "poor", "good", "info"):
        assert contrast(text, f"{text}-tint") >= 4.5
    for mark in ("mark", "dw"):
        assert contrast(mark, "sheet") >= 3.0


def test_charts_have_the_levels_of_the_verdict_and_no_others() -> None:
    (model,) = samples.small().models
    schemes = tuple(replace(scheme, agreement=None) for scheme in model.schemes)
    text = render_html(Run((replace(model, schemes=schemes, levels=VerdictLevels(breaks_db=7.5, survives_db=23.5)),)))
    drawn = set(re.findall(r'class="level-label"[^>]*>([^<]*)<', text))
    assert drawn == {"7.5 dB", "23.5 dB"}
    assert re.findall(r'class="tick"[^>]*/><text[^>]*>([^<]*)<', text)[:2] == ["7.5", "23.5 dB"]
    by_class = render_html(Run((model,)))
    assert re.findall(r'class="tick"[^>]*/><text[^>]*>([^<]*)<', by_class)[:2] == ["60", "90 %"], "agreement decides"


def test_the_headline_counts_a_damage_once() -> None:
    """Three findings of one claim are one fault in the page, in the line of totals, and in the JSON."""
    run = samples.chained()
    text = render_html(run)
    assert "1 fault in 3 findings (1 error; 1 confirmed)" in text
    assert "✖ 1 error<" in text and "✖ 3 errors" not in text
    (model,) = json.loads(render(run, ReportFormat.JSON))["models"]
    assert model["faults"] == {"total": 1, "error": 1, "warning": 0, "info": 0} and len(model["findings"]) == 3


def test_a_chart_without_values_is_empty() -> None:
    points = [Point("a", None), Point("b", float("nan")), Point("c", float("inf"))]
    assert charts.sqnr_chart(points, "t", LEVELS) == ""


def test_a_line_breaks_where_a_layer_has_no_figure() -> None:
    values = (10.0, 20.0, None, 30.0)
    points = [Point(str(v), v) for v in values]
    path = re.search(r'class="line"><path d="([^"]*)"', charts.sqnr_chart(points, "t", LEVELS))
    assert path
    assert [char for char in path[1] if char.isalpha()] == ["M", "L", "M"]


def test_a_chart_stays_inside_its_frame_and_escapes_names() -> None:
    points = [Point("<b>&", -90.0), Point("b", 140.0, style="probe")]
    svg = charts.sqnr_chart(points, '"><script>', LEVELS)
    ys = [float(y) for y in re.findall(r' c?y="([-0-9.]+)"', svg)]
    assert ys and all(0 <= y <= charts.HEIGHT for y in ys)
    assert "&lt;b&gt;&amp;: -90.0 dB" in svg and "<script>" not in svg


def test_tensors_without_a_layer_are_drawn_and_listed(rendered: dict[str, str]) -> None:
    text = rendered["costly"]
    shown = " ".join("".join(Page(text).text).split())
    assert "Costs most: the result of attention/Add, 3.0 dB if it alone is quantised, 75.4 % of the noise." in shown
    assert "Weakest layer" in shown, "the scheme that survives"
    # One point an operator, by its worse tensor; the softmax has no name.
    for said in ("attention/Add: 3.0 dB", "chosen: 12.0 dB", "stem: 33.0 dB"):
        assert f"<title>{said} under int8-per-channel, measured</title>" in text
    assert "<title>attention/Add: weight 0 %, result 75.4 % of the noise, measured</title>" in text
    table = shown[shown.index("Tensors that cost the output most under int8-per-channel") :]
    assert "1 attention/Add Add result 3.0 75.4 2 head Conv weight 10.0 15.0" in table


def card(text: str) -> str:
    """The first card as it reads."""
    return " ".join(
        "".join(
            Page(text[text.index('<div class="cards">') :].split("</section>", maxsplit=1)[0] + "</section></div>").text
        ).split()
    )


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (Verdict.SURVIVES, "Ship"),
        (Verdict.DEGRADES, "Hold"),
        (Verdict.BREAKS, "Hold"),
        (Verdict.UNCERTAIN, "Unsure"),
        (None, "Unsure"),
    ],
)
def test_a_verdict_is_a_word_for_the_release(verdict: Verdict | None, word: str) -> None:
    text = render_html(samples.found_nothing(verdict))
    assert card(text).split()[2] == word
    (nothing,) = re.findall(r'<p class="nothing.*?</p>', text)
    assert ("No findings" in nothing) is (word != "Unsure")
    assert ("does not show that the model survives" in nothing) is (word == "Unsure")


@pytest.mark.parametrize(("chance", "word"), [(0.84, "Unsure"), (0.85, "Ship")])
@pytest.mark.parametrize(("basis", "then"), [(Basis.FORECAST, "with --calibrate"), (Basis.MEASURED, "on more samples")])
def test_a_verdict_has_to_be_sure_to_be_shipped(chance: float, word: str, basis: Basis, then: str) -> None:
    (model,) = samples.found_nothing(Verdict.SURVIVES).models
    likely = replace(model.schemes[0], basis=basis, chances=Chances(chance, 1 - chance, 0.0))
    shown = card(render_html(Run((replace(model, schemes=(likely,)),))))
    assert shown.split()[2] == word
    assert ("Under 85 % is not enough to ship on" in shown) is (word == "Unsure")
    assert (then in shown) is (word == "Unsure")


def test_no_line_ends_within_an_option() -> None:
    prose = environment().filters["prose"]
    assert prose("run it with --calibrate <b>, `--probe`") == (
        'run it with <span class="option">--calibrate</span> &lt;b&gt;, <code>--probe</code>'
    )
    assert prose("well--known -- and ---") == "well--known -- and ---"


def test_a_figure_that_too_few_samples_tell_says_so_on_its_card() -> None:
    (model,) = samples.found_nothing(Verdict.DEGRADES).models
    open_ = replace(model.schemes[0], outputs=(), note="too few samples to tell it from 60 %; about 66 samples would")
    shown = card(render_html(Run((replace(model, schemes=(open_,)),))))
    assert "▲ Hold" in shown and "Too few samples to tell it from 60 %; about 66 samples would." in shown


def test_a_good_verdict_on_made_up_samples_is_not_to_be_shipped() -> None:
    (model,) = samples.found_nothing(Verdict.SURVIVES).models
    made_up = replace(model, calibration=CalibrationSummary("random", "", 8, 4, synthetic=True))
    assert "Made-up samples decide nothing." in card(render_html(Run((made_up,))))
    assert "Unsure" in card(render_html(Run((made_up,))))


def test_what_undermines_all_figures_ships_nothing() -> None:
    (model,) = samples.found_nothing(Verdict.SURVIVES).models
    wrong = replace(samples.static("bn"), severity=Severity.ERROR)
    assert f"{wrong.code} says that no figure here can be relied on." in card(
        render_html(Run((replace(model, findings=(wrong,)),)))
    )


@pytest.mark.parametrize(
    ("severity", "word"), [(Severity.ERROR, "Hold"), (Severity.WARNING, "Unsure"), (Severity.INFO, "Unsure")]
)
def test_a_quantised_file_has_a_card_and_is_never_shipped_unmeasured(severity: Severity, word: str) -> None:
    (model,) = samples.quantised().models
    told = replace(model, findings=tuple(replace(one, severity=severity) for one in model.findings))
    text = render_html(Run((told,)))
    assert word in card(text) and "the file as it is (qdq)" in card(text)
    assert "onnxlint-q compare FLOAT.onnx model_int8.onnx --calibrate PATH" in text


def test_each_thing_to_do_can_be_copied() -> None:
    for make in samples.ALL.values():
        text = render_html(make())
        for steps in re.findall(r'<ol class="steps".*?</ol>', text, re.DOTALL):
            assert steps.count("<li>") == steps.count('<button type="button" class="copy" hidden>')


def test_paths_are_told_where_that_is_asked_for() -> None:
    text = render(local(), ReportFormat.HTML, Look(paths=True))
    shown = "".join(Page(text).text)
    assert all(f"{folder}net.onnx" in shown for folder in FOLDERS[:3])
    assert re.findall(r"<h1[^>]*>([^<]*)</h1>", text) == ["net.onnx"] * 3


def test_suppressed_findings_carry_their_reason() -> None:
    (model,) = samples.small().models
    known = replace(
        model.findings[0],
        suppression=Suppression(
            Suppressor.CONFIGURATION, "[[suppress]] 2 of a/b/onnxlint-q.toml", "accepted until 2.1"
        ),
    )
    own = replace(model.findings[1], suppression=Suppression(Suppressor.MODEL, "the metadata of 'a/b'", "by design"))
    page = render(Run((replace(model, findings=model.findings[2:], suppressed=(known, own)),)), ReportFormat.HTML)
    assert "accepted until 2.1 ([[suppress]] 2 of onnxlint-q.toml)" in page and "a/b/onnxlint" not in page
    assert "by design (the metadata of &#39;a/b&#39;)" in page
