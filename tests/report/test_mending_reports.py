"""The reports of `fix` and `quantize` in every format: figures, bounds, hostile names. All figures are invented."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from samples import HOSTILE, static
from test_report_html import POLICY, Page

from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.report import ReportFormat, fix, quantize
from onnxlint_q.report.formats import Look
from onnxlint_q.workflow.mending.fixed import Fixed, Place, RewriteResult, Verification, Withheld
from onnxlint_q.workflow.mending.quantized import AttemptRow, Milliseconds, Quantized, Weight
from onnxlint_q.workflow.results import Basis, OutputResult, SchemeResult

TENSOR, CHANNEL = "int8-per-tensor", "int8-per-channel"
LONG = "/m/encoder/albert_layer_groups.0/albert_layers.0/attention/LayerNorm/LayerNormalization"


def scheme(name: str, verdict: Verdict | None, decibel: float | None, agreement: float | None = None) -> SchemeResult:
    return SchemeResult(name, verdict, decibel, Basis.MEASURED, agreement, "" if verdict else "no output to compare")


def fixed(name: str = "block1/conv", *, out: str = "folder/out.onnx", synthetic: bool = False) -> Fixed:
    before = scheme(TENSOR, Verdict.BREAKS, -9.14, 0.1875), scheme(CHANNEL, Verdict.SURVIVES, 25.8, 1.0)
    after = scheme(TENSOR, Verdict.DEGRADES, 17.26, 0.875), scheme(CHANNEL, Verdict.SURVIVES, 26.3, 1.0)
    place = Place(name, name, "Conv", f"channel 3 of {name} is made by the bias")
    helps = RewriteResult(
        "constant-channels",
        "constant channels made by the bias",
        "exact",
        (place, place),
        left_out=(replace(place, said="it changes the float outputs (31 dB)"),),
        float_sqnr_db=101.4,
        before=before,
        after=after,
    )
    refused = tuple(
        Place(one, one, kind, f"{kind} {one!r} does not hand a factor on")
        for one, kind in zip(
            (f"{name}{number}" for number in range(4)), ("Softmax", "Sigmoid", "Softmax", "Softmax"), strict=True
        )
    )
    idle = RewriteResult("cross-layer-equalisation", "channels divided by factors", "exact", refused=refused)
    return Fixed(
        path=f"folder/{name}",
        sha256="ab" * 32,
        opset=17,
        out=out,
        rewrites=(helps, idle),
        withheld=(Withheld("joined-outputs", 1, "add --unsafe"),),
        verification=Verification(f"photos/{name}", "imagenet, RGB", synthetic, 16, 12),
        float_sqnr_db=101.4,
        before=before,
        after=after,
        resolved=(static("bn1"), static("bn2")),
        remaining=(static("bn3"),),
        new=(replace(static(name), message=f"Something new at {name}."),),
        notes=(f"input {name} taken as [1, 3]",),
        seconds={"read": 0.25, "rewrites": 1.5},
    )


def quantized(name: str = "block1/conv", *, reached: bool = True) -> Quantized:
    attempts = (
        AttemptRow(TENSOR, "min-max", 0, 0, 0, -9.2, 0.0625, False),
        AttemptRow(CHANNEL, "mse", 2, 3, 12, 28.4, 0.9375, True),
        AttemptRow("int8-dynamic", "", 0, 0, 0, None, None, False),
    )
    return Quantized(
        path=f"folder/{name}",
        sha256="ab" * 32,
        opset=17,
        out=f"elsewhere/{name}",
        recipe_file=f"elsewhere/{name}.recipe.json",
        verification=Verification(f"photos/{name}", "imagenet, RGB", False, 16, 12),
        observer="mse",
        shifted=12,
        fixed=fixed(name, out=""),
        plain=(scheme(TENSOR, Verdict.BREAKS, -9.14, 0.1875),),
        result=scheme(CHANNEL, Verdict.SURVIVES, 27.46, 1.0),
        goal="at least 20 dB at the worst output",
        reached=reached,
        why_not="" if reached else "The file is the best that was found; 3 ways were tried.",
        attempts=attempts,
        excluded=tuple(f"{name}/{number}" for number in range(8)),
        wide=(name, "y", "z"),
        macs={"int8": 0.95, "float": 0.05},
        left={},
        before=Weight(4_000_000, Milliseconds(3.21, 3.0, 4.5, 200)),
        after=Weight(999_000, Milliseconds(1.5, 1.25, 2.0, 200)),
        snippet=f"import onnx\nonnx.load('{name}')",
        top1=Top1(12, 9, 1, 0),
        notes=(f"input {name} taken as [1, 3]",),
        seconds={"read": 0.25, "fix and search": 61.0},
    )


FIX = """\
folder/block1/conv
Changed 2 places with 1 rewrite; float outputs are the same (101 dB).
data photos/block1/conv (imagenet, RGB): 16 samples for ranges, 12 others for the figures
· Input block1/conv taken as [1, 3]

  int8-per-tensor   before  ✖ breaks    -9.1 dB, same top class 18.8 %
                    after   ▲ degrades  17.3 dB, same top class 87.5 %
  int8-per-channel  before  ✔ survives  25.8 dB, same top class 100 %
                    after   ✔ survives  26.3 dB, same top class 100 %

Changed
  constant-channels  2 places, int8-per-tensor -9.1 → 17.3 dB

Not changed
  joined-outputs applies at 1 place and was not tried; to try it, add --unsafe
  constant-channels         1 place: it changes the float outputs (31 dB)
  cross-layer-equalisation  3 places: Softmax does not hand a factor on
  cross-layer-equalisation  1 place: Sigmoid does not hand a factor on

2 findings resolved, 1 remaining, 1 new
  new: QG004 Something new at block1/conv.

dB: SQNR, signal over int8 error at the output; more is better, 20 dB is an error of 10 %, 0 dB of
100 %. Top class: the one with the highest score.
--verbose shows every place, and why others were not changed.
Written: folder/out.onnx
time: read 0.2 s, rewrites 1.5 s
"""

QUANTIZE = """\
folder/block1/conv
Not reached: at least 20 dB at the worst output. The file is the best that was found; 3 ways were
tried.
data photos/block1/conv (imagenet, RGB): 16 samples for ranges, 12 others for the figures
· Input block1/conv taken as [1, 3]

  plain    int8-per-tensor   ✖ breaks    -9.1 dB, same top class 18.8 %
  written  int8-per-channel  ✔ survives  27.5 dB, same top class 100 %

  recipe             int8-per-channel, ranges by mse, biases of 12 layers shifted, 3 activations of
                     16 bits, 8 nodes in float
  fixed first        constant-channels; float outputs are the same (101 dB)
  in float           block1/conv/0, block1/conv/1, block1/conv/2, block1/conv/3, block1/conv/4,
                     block1/conv/5 and 2 more
  in 16 bits         block1/conv, y, z
  multiplications    95 % in int8, 5 % in float
  size               4.0 MB → 999.0 KB
  latency here       3.21 ms (3 to 4.5) → 1.5 ms (1.25 to 2)
  static or dynamic  static, as dynamic is not enough: 28.4 dB, and perfect match with int8-dynamic,
                     on the samples of the search
  labels             top-1 right on 66.7 % of 12 labelled samples, float 75 %: 8.3 % lost (95 %
                     interval: -17 to 31 %)

Tried, on the samples of the search
                               nodes in  activations   biases   SQNR  same top
  scheme            ranges by     float   of 16 bits  shifted     dB   class %  reached
  int8-per-tensor   min-max           0            0        0   -9.2       6.2  no
  int8-per-channel  mse               2            3       12   28.4      93.8  yes
  int8-dynamic      -                 0            0        0  exact         -  no

Plain: what ONNX Runtime's quantiser makes of the model by default. dB: SQNR, signal over int8 error
at the output; more is better, 20 dB is an error of 10 %, 0 dB of 100 %. Top class: the one with the
highest score.
--verbose shows what was tried, and Python that makes this file with ONNX Runtime alone.
Written: elsewhere/block1/conv
Recipe:  elsewhere/block1/conv.recipe.json
time: read 0.2 s, fix and search 61.0 s
"""


def rendered(found: Fixed | Quantized, form: ReportFormat, look: Look | None = None) -> str:
    look = look or Look(100)
    return fix.render(found, form, look) if isinstance(found, Fixed) else quantize.render(found, form, look)


def test_full_reads_as_it_is_meant_to() -> None:
    assert rendered(fixed(), ReportFormat.FULL) == FIX
    assert rendered(quantized(reached=False), ReportFormat.FULL) == QUANTIZE


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("name", ["conv", LONG])
def test_lines_fit(name: str, verbose: bool, width: int) -> None:
    for found in (fixed(name), fixed(name, synthetic=True), quantized(name), quantized(name, reached=False)):
        for line in rendered(found, ReportFormat.FULL, Look(width, verbose=verbose)).splitlines():
            # What is to be typed, and a name without a blank, are not broken.
            assert len(line) <= width or f"'{name}'" in line or name in line


def test_quiet_tells_a_goal_that_was_missed_and_nothing_else() -> None:
    quiet = Look(quiet=True)
    assert rendered(fixed(), ReportFormat.FULL, quiet) == rendered(quantized(), ReportFormat.FULL, quiet) == ""
    (line,) = rendered(quantized(reached=False), ReportFormat.FULL, quiet).splitlines()
    assert ": Not reached: " in line


def test_verbose_tells_every_place_and_each_reason_with_its_name() -> None:
    text = rendered(fixed(), ReportFormat.FULL, Look(120, verbose=True))
    assert "constant-channels: constant channels made by the bias" in text
    assert text.count("Conv block1/conv: channel 3 of block1/conv is made by the bias") == 2
    for number in range(4):
        assert f"'block1/conv{number}' does not hand a factor on" in text
    assert "--verbose" not in text


def test_what_would_change_is_listed_where_nothing_is_written() -> None:
    text = rendered(fixed(out=""), ReportFormat.FULL)
    assert "Would change 2 places with 1 rewrite" in text and "Written" not in text
    assert text.count("channel 3 of block1/conv is made by the bias") == 2


def test_nothing_to_change_shows_each_scheme_once() -> None:
    found = fixed()
    rewrites = tuple(replace(rewrite, places=()) for rewrite in found.rewrites)
    text = rendered(replace(found, rewrites=rewrites, after=found.before), ReportFormat.FULL)
    assert "Nothing to change" in text and text.count("-9.1 dB") == 1 and "before" not in text
    assert "Written: folder/out.onnx, the same model" in text


def test_a_model_that_no_scheme_quantises_has_no_figures_and_says_so() -> None:
    said = rendered(replace(fixed(), before=(), after=()), ReportFormat.FULL)
    assert "No scheme quantises anything in this model" in said and "\n\n\n" not in said
    assert "No scheme" not in rendered(fixed(), ReportFormat.FULL)


def test_a_rewrite_that_gains_nothing_alone_says_so() -> None:
    (helps, idle) = fixed().rewrites
    text = rendered(replace(fixed(), rewrites=(replace(helps, after=helps.before), idle)), ReportFormat.FULL)
    assert "constant-channels  2 places, no gain by itself" in text


def test_the_worst_output_is_told_where_it_is_clearly_below() -> None:
    outputs = OutputResult("boxes", "values", 4.5), OutputResult("scores", "values", 20.0)
    after = (replace(scheme(TENSOR, Verdict.DEGRADES, 8.0), outputs=outputs),)
    text = rendered(replace(fixed(), after=after), ReportFormat.FULL)
    assert "8.0 dB, worst output 4.5 dB" in text and "17.3 dB, worst" not in text


def test_made_up_samples_are_said_first() -> None:
    told = rendered(fixed(synthetic=True), ReportFormat.FULL)
    assert told.startswith("▲ Tried on synthetic inputs, not on data: ")
    assert "Tried on synthetic inputs" in rendered(fixed(synthetic=True), ReportFormat.HTML)


def test_the_lines_of_python_are_printed_when_asked_for_and_stay_whole() -> None:
    text = rendered(quantized(LONG), ReportFormat.FULL, Look(80, verbose=True))
    assert f"  import onnx\n  onnx.load('{LONG}')\n" in text
    assert "onnx.load(" not in rendered(quantized(), ReportFormat.FULL)


SCHEME = {"verdict": str, "output_sqnr_db": float, "agreement": float, "note": str}
VERIFICATION = {
    "source": str,
    "preprocessing": str,
    "synthetic": bool,
    "samples_for_ranges": int,
    "samples_for_figures": int,
}
PLACE = {"tensor": str, "node": str, "op_type": str, "said": str}
FINDING = dict.fromkeys(("code", "name", "severity", "message", "node", "output", "fingerprint"), str)
FIXED = {
    "version": int,
    "tool": {"name": str, "version": str},
    "path": str,
    "sha256": str,
    "opset": int,
    "out": str,
    "tried_on": VERIFICATION,
    "float_sqnr_db": float,
    "schemes": {TENSOR: {"before": SCHEME, "after": SCHEME}, CHANNEL: {"before": SCHEME, "after": SCHEME}},
    "rewrites": [
        {
            "name": str,
            "what": str,
            "safety": str,
            "float_sqnr_db": (float, type(None)),
            "places": [PLACE],
            "left_out": [PLACE],
            "refused": [PLACE],
            "before": dict,
            "after": dict,
        }
    ],
    "withheld": [{"name": str, "places": int, "option": str}],
    "findings": {"resolved": [FINDING], "remaining": [FINDING], "new": [FINDING]},
    "notes": [str],
}
WEIGHT = {"bytes": int, "latency_ms": {"median": float, "low": float, "high": float, "runs": int}}
QUANTIZED = {
    "version": int,
    "tool": {"name": str, "version": str},
    "path": str,
    "sha256": str,
    "opset": int,
    "out": str,
    "recipe_file": str,
    "goal": str,
    "reached": bool,
    "why_not": (str, type(None)),
    "measured_on": VERIFICATION,
    "basis": str,
    "warning": (str, type(None)),
    "scheme": str,
    "observer": (str, type(None)),
    "biases_shifted": int,
    "weights_rounded": int,
    "nodes_to_exclude": [str],
    "activations_of_16_bits": [str],
    "result": SCHEME,
    "plain": {TENSOR: SCHEME},
    "top1": dict,
    "multiplications": {"int8": float, "float": float},
    "layers_left_in_float": {},
    "before": WEIGHT,
    "after": WEIGHT,
    "attempts": [
        {
            "scheme": str,
            "observer": (str, type(None)),
            "nodes_in_float": int,
            "activations_of_16_bits": int,
            "biases_shifted": int,
            "weights_rounded": int,
            "sqnr_db": (float, type(None)),
            "agreement": (float, type(None)),
            "reached": bool,
            "outside_8_bits": float,
        }
    ],
    "fixed": {**FIXED, "out": type(None)},
    "snippet": str,
    "notes": [str],
}


def fits(held: Any, form: Any, where: str = "") -> None:
    """A document has exactly these keys, and values of these types."""
    if isinstance(form, dict):
        assert isinstance(held, dict) and list(held) == list(form), where
        for key, part in form.items():
            fits(held[key], part, f"{where}.{key}")
    elif isinstance(form, list):
        assert isinstance(held, list), where
        for number, one in enumerate(held):
            fits(one, form[0], f"{where}[{number}]")
    else:
        assert isinstance(held, form), where


def test_json_has_the_keys_that_consumers_know() -> None:
    fits(json.loads(rendered(fixed(), ReportFormat.JSON)), FIXED)
    fits(json.loads(rendered(quantized(), ReportFormat.JSON)), QUANTIZED)
    fits(json.loads(rendered(quantized(reached=False), ReportFormat.JSON)), {**QUANTIZED, "why_not": str})


def test_what_is_not_known_is_null_and_no_number_is_infinite() -> None:
    def constant(word: str) -> float:
        raise AssertionError(word)

    nothing = replace(
        quantized(),
        fixed=None,
        top1=None,
        observer="",
        result=scheme(TENSOR, None, None),
        attempts=(AttemptRow(TENSOR, "", 0, 0, 0, float("-inf"), float("nan"), False),),
        before=Weight(10, None),
        after=Weight(10, None),
    )
    held = json.loads(rendered(nothing, ReportFormat.JSON), parse_constant=constant)
    for key in ("fixed", "top1", "observer", "why_not"):
        assert held[key] is None
    assert held["before"] == {"bytes": 10, "latency_ms": None} and held["attempts"][0]["agreement"] is None
    text = rendered(nothing, ReportFormat.FULL)
    assert "? unknown  no output to compare" in text and "latency" not in text and "fixed first" not in text


@pytest.mark.parametrize("make", [fixed, quantized])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_do_nothing(name: str, make: Any) -> None:
    found = make(name)
    for verbose in (False, True):
        for line in rendered(found, ReportFormat.FULL, Look(100, verbose=verbose)).splitlines():
            assert line.replace("\u3000", " ").isprintable()
    page = rendered(found, ReportFormat.HTML)
    shown = Page(page)
    assert sum(tag == "script" for tag, _ in shown.tags) == page.count("<script")
    assert not {"img", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in shown.tags}
    assert not any(key.startswith("on") or key in {"src", "srcset"} for _, held in shown.tags for key in held)
    assert not any(char in page for char in "\x00\x07\x1b\u202e\u200b\ud800\udc80")
    json.loads(rendered(found, ReportFormat.JSON).encode("utf-8"))


@pytest.mark.parametrize("make", [fixed, quantized])
def test_a_page_asks_for_nothing_and_carries_its_data(make: Any) -> None:
    page = rendered(make(), ReportFormat.HTML)
    for pattern in (r"https?://", r"url\(", r"@import", r"fetch\(", r"XMLHttpRequest", r"\bimport\("):
        assert not re.search(pattern, page)
    shown = Page(page)
    (policy,) = (held["content"] for tag, held in shown.tags if tag == "meta" and "http-equiv" in held)
    assert policy is not None and policy.startswith(POLICY)
    assert len(shown.ids) == len(set(shown.ids))
    assert all(held.get("aria-labelledby") in {None, *shown.ids} for _, held in shown.tags)
    told, data = json.loads(rendered(make(), ReportFormat.JSON)), json.loads(shown.data)
    assert data.keys() == told.keys() and data["sha256"] == told["sha256"]


@pytest.mark.parametrize("make", [fixed, quantized])
def test_a_page_names_no_folders(make: Any) -> None:
    page = rendered(make("conv"), ReportFormat.HTML)
    for folder in ("folder/", "elsewhere/", "photos/"):
        assert folder not in page
    assert "conv" in page


def test_a_page_with_many_places_is_bounded_and_says_so() -> None:
    (helps, idle) = fixed().rewrites
    many = replace(helps, places=helps.places * 5000)
    page = rendered(replace(fixed(), rewrites=(many, idle)), ReportFormat.HTML)
    table = page.split('id="data"')[0]
    assert len(table) < 1_000_000 and "10000 places" in " ".join("".join(Page(page).text).split())
    text = rendered(replace(fixed(), rewrites=(many, idle)), ReportFormat.FULL, Look(100, verbose=True))
    assert "9800 more; the json report has them all" in text and text.count("\n") < 400
