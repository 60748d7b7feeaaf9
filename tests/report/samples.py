"""Runs to render: a small one, a large one, a hostile one, and one with nothing in it. All figures are invented."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from onnxlint_q.finding import Claim, Confidence, Cure, Evidence, Finding, Location, Severity, Subject
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.workflow.comparison import (
    ComparedFile,
    Comparison,
)
from onnxlint_q.workflow.results import (
    Basis,
    CalibrationSummary,
    Failure,
    JointRemedy,
    LayerRow,
    LayerSqnr,
    ModelResult,
    Run,
    SchemeResult,
    TensorRow,
    TrialFigure,
    Trials,
)

BREAKS, SURVIVES = Verdict.BREAKS, Verdict.SURVIVES
TENSOR, CHANNEL = "int8-per-tensor", "int8-per-channel"
SNIPPET = "quantize_static(\n    ...,\n    per_channel=True,\n)"

HOSTILE = (
    "<script>alert(1)</script>",
    "[red]x[/red][/]",
    "first\nsecond\rthird\tfourth",
    "\x1b[31mred\x1b[0m\x00\x07",
    "right\u202eot-tfel\u200b",
    "\udc80\ud800 lone",
    "卷积层/深度可分离/重み",
    'a" onmouseover="alert(1)\' x=`',
    "</script><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&amp;",
    "very/long/" + "block_with_a_long_name/" * 40 + "end",
    "",
)


def conv(node: str, output: str, op_type: str = "Conv", graph: str = "main") -> Location:
    return Location(graph=graph, node=node, op_type=op_type, output=output)


def spread(node: str, measured: float | None, evidence: Evidence, *, severity: Severity = Severity.ERROR) -> Finding:
    """A finding about a depthwise layer, tested or not."""
    return Finding(
        code="QW001",
        name="unequal-channel-ranges",
        severity=severity,
        confidence=Confidence.HIGH,
        message="The channels' ranges differ by a factor of 214.7; one int8 scale leaves 27 of 96 fewer than 4 codes.",
        location=conv(node, f"{node}/bn_out"),
        metrics={"ratio": 214.7, "channels": 96, "starved_fraction": 0.28125},
        remedy="Quantise weights per channel, or equalise the two layers before.",
        snippet=SNIPPET,
        claim=Claim(Subject.WEIGHT, f"{node}/bn_out", TENSOR, 10.0),
        evidence=evidence,
        measured_db=measured,
    )


def static(node: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(
        code="QG004",
        name="unfolded-batch-norm",
        severity=severity,
        confidence=Confidence.HIGH,
        message="This BatchNormalization stays in the graph: its input has two readers.",
        location=conv(node, f"{node}:0", "BatchNormalization"),
        remedy="Let the convolution feed the BatchNormalization alone.",
    )


def row(
    node: str,
    *,
    depthwise: bool = False,
    value_range: float = 1.5,
    precision: float = 0.5,
    forecast: float | None = None,
    measured: float | None = None,
) -> LayerRow:
    """A layer; per channel it is 12 dB better, and 3 dB worse with its activation."""

    def both(tensor: float | None) -> dict[str, LayerSqnr] | None:
        if tensor is None:
            return None
        return {
            TENSOR: LayerSqnr(tensor, tensor - 3.0),
            CHANNEL: LayerSqnr(tensor + 12.0, tensor + 7.0),
        }

    return LayerRow(
        node=node,
        output=f"{node}/bn_out",
        op_type="Conv",
        group=96 if depthwise else 1,
        depthwise=depthwise,
        range=value_range,
        average_precision=precision,
        channel_sqnr_db=30.0 * precision + 8.0,
        activation_low=None if measured is None else -value_range * 3,
        activation_high=None if measured is None else value_range * 5,
        forecast=both(forecast),
        measured=both(measured),
    )


def small() -> Run:
    """One model, one finding of each kind."""
    model = ModelResult(
        path="small.onnx",
        sha256="ab" * 32,
        opset=13,
        format="float",
        schemes=(
            SchemeResult(TENSOR, Verdict.BREAKS, -3.957, Basis.MEASURED, agreement=0.0521),
            SchemeResult(CHANNEL, Verdict.DEGRADES, 13.19, Basis.MEASURED, agreement=0.75),
        ),
        layers=(
            row("stem", forecast=31.0, measured=33.333333333),
            row("dw1", depthwise=True, value_range=12.25, precision=0.11, forecast=6.0, measured=4.71),
            row("dw2", depthwise=True, value_range=8.5, precision=0.2, forecast=11.0, measured=31.02),
            row("head", forecast=24.0, measured=27.5),
        ),
        findings=(
            spread("dw1", 4.71, Evidence.CONFIRMED),
            spread("dw2", 31.02, Evidence.REFUTED),
            static("bn3"),
        ),
        calibration=CalibrationSummary("photos", "imagenet preprocessing", 32, 16),
    )
    return Run((model,))


CHAIN = (
    "BatchNorm channel 7 has next to no variance.",
    "Channel 7 then owns the tensor's range.",
    "Cure: channel 7 returns beta for every input.",
)


def chained(layers: int = 1) -> Run:
    """Each layer flagged by three rules that make one claim; the third tells something of its own."""
    findings = []
    for number in range(layers):
        first = replace(spread(f"dw{number}", 1.5, Evidence.CONFIRMED), causes=CHAIN, note="The cure holds.")
        first = replace(first, cure=Cure(f"dw{number}/bn_out", (7,), TENSOR))
        findings += [
            first,
            replace(first, code="QW003", name="collapsed", message="Eighteen channels are lost.", remedy="Prune."),
            replace(first, code="QW009", name="other", message="Something else.", causes=(), snippet="other=True"),
        ]
    (model,) = small().models
    return Run((replace(model, findings=tuple(findings)),))


def remedied() -> Run:
    """One scale a channel, and lists of nodes for both kinds of hardware."""
    model = small().models[0]
    finer = JointRemedy(
        TENSOR, (), "quantize_static(..., per_channel=True)", 4.7, 18.2, 0.3, 0.95, BREAKS, SURVIVES, 32, held_out=True
    )
    nodes = ("stem/Conv", "stem/Relu")
    coarse = replace(
        finer,
        nodes_to_exclude=nodes,
        snippet=f"quantize_static(..., nodes_to_exclude={list(nodes)})",
        after_db=9.1,
        after_agreement=0.5,
        verdict_after=BREAKS,
        coarse_only=True,
    )
    return Run((replace(model, remedies=(finer, coarse)),))


def large(layers: int = 113, seed: int = 7) -> Run:
    """A network of the size reports are made for, with 60 findings."""
    draw = random.Random(seed)
    rows = []
    for index in range(layers):
        depthwise = index % 3 == 1
        part = ("expand", "depthwise", "project")[index % 3]
        precision = draw.uniform(0.04, 0.4) if depthwise else draw.uniform(0.3, 0.9)
        forecast = draw.gauss(38.0, 6.0) - (28 * (0.4 - precision) / 0.36 if depthwise else 0.0)
        rows.append(
            row(
                f"MobilenetV2/expanded_conv_{index // 3}/{part}/Conv2D",
                depthwise=depthwise,
                value_range=10 ** draw.uniform(-0.3, 0.6) * (12 if depthwise else 1),
                precision=precision,
                forecast=forecast,
                measured=forecast + draw.gauss(0.0, 2.5),
            )
        )
    depthwise_nodes = [layer for layer in rows if layer.depthwise]
    depthwise_nodes.sort(key=lambda layer: layer.average_precision)
    findings = []
    for index, layer in enumerate(depthwise_nodes[:26]):
        measured = layer.measured[TENSOR].weight_sqnr_db if layer.measured else None
        evidence = Evidence.UNTESTED if index > 15 else Evidence.CONFIRMED
        severity = Severity.ERROR if index < 12 else Severity.WARNING
        findings.append(spread(layer.node, None if index > 15 else measured, evidence, severity=severity))
    findings += [static(f"MobilenetV2/BatchNorm_{index}") for index in range(30)]
    findings += [spread(layer.node, 33.1, Evidence.REFUTED) for layer in depthwise_nodes[30:33]]
    findings.append(static("MobilenetV2/Logits", Severity.INFO))
    model = ModelResult(
        path="release/mobilenetv2_100.onnx",
        sha256="0123456789abcdef" * 4,
        opset=17,
        format="float",
        schemes=(
            SchemeResult(TENSOR, Verdict.BREAKS, 1.84, Basis.MEASURED, agreement=0.125),
            SchemeResult(CHANNEL, Verdict.SURVIVES, 17.62, Basis.MEASURED, agreement=0.9375, note="Only 16 samples."),
        ),
        layers=tuple(rows),
        findings=tuple(findings),
        suppressed=(static("MobilenetV2/accepted"),),
        calibration=CalibrationSummary("imagenet/val", "imagenet preprocessing, 224 × 224", 32, 16),
        notes=("3 nodes of an unknown domain were passed through as they are.",),
        seconds={"read": 0.21, "measure": 0.34, "calibrate": 11.83},
    )
    return Run((model,))


def figure(scheme: str, samples: int, sqnr_db: float | None, observer: str = "min-max") -> TrialFigure:
    return TrialFigure(scheme, observer, samples, sqnr_db, 0.25, 0.78125, 0.0125)


def tried() -> Run:
    """Calibrated again on other samples."""
    trials = Trials(
        count=5,
        samples=4,
        held_out=4,
        observers=(
            figure(TENSOR, 4, 3.5),
            figure(CHANNEL, 4, 17.4),
            figure(TENSOR, 4, 6.1, "mse"),
            figure(CHANNEL, 4, None, "mse"),
        ),
        curve=tuple(figure(scheme, n, 3.0 + n) for n in (1, 2, 4) for scheme in (TENSOR, CHANNEL)),
        sentences=("int8-per-tensor: mse is best.",),
    )
    (model,) = small().models
    return Run((replace(model, trials=trials),))


def quantised() -> Run:
    """A file that is quantised already: no schemes, no forecasts."""
    location = Location(node="QuantizeLinear_7", op_type="QuantizeLinear", output="x7_q")
    finding = Finding(
        code="QP003",
        name="large-scale",
        severity=Severity.WARNING,
        confidence=Confidence.MEDIUM,
        message="The scale 0.83 is 41 times the median of the file.",
        location=location,
        remedy="Calibrate this activation with a percentile observer.",
        snippet="calibrate_method=CalibrationMethod.Percentile",
    )
    layers = (LayerRow("conv", "conv_out", "Conv", 1, False, 2.0, 0.6, 35.0),)
    return Run((ModelResult("model_int8.onnx", "cd" * 32, 13, "qdq", (), layers, (finding,)),))


def forecast_only(findings: bool = True) -> Run:
    """A float model nothing was run on."""
    model = ModelResult(
        path="plain.onnx",
        sha256="ef" * 32,
        opset=12,
        format="float",
        schemes=(
            SchemeResult(TENSOR, Verdict.DEGRADES, 9.5, Basis.FORECAST, note="2 operators are unknown."),
            SchemeResult(CHANNEL, Verdict.SURVIVES, 25.1, Basis.FORECAST),
        ),
        layers=tuple(row(f"layer{index}", depthwise=index % 2 == 1, forecast=10.0 + 3 * index) for index in range(6)),
        findings=(spread("layer1", None, Evidence.UNTESTED),) if findings else (),
        untested_because="the model has a custom operator that ONNX Runtime does not know",
    )
    return Run((model,))


def found_nothing(verdict: Verdict | None) -> Run:
    """No finding, one scheme that survives and one with another verdict."""
    (model,) = forecast_only(findings=False).models
    schemes = (
        SchemeResult(TENSOR, verdict, 9.5, Basis.FORECAST),
        SchemeResult(CHANNEL, Verdict.SURVIVES, 25.1, Basis.PROBE),
    )
    return Run((replace(model, schemes=schemes, untested_because=""),))


def contested() -> Run:
    """Forecasts that a run contradicts: of layers that it measured, and of one that cannot cost more than the whole."""
    (model,) = small().models
    stem, dw1, dw2, head = model.layers
    exact = row("exact", forecast=3.0)
    layers = (
        stem,
        dw1,
        replace(dw2, measured=None),
        replace(head, measured=None),
        replace(exact, measured={TENSOR: LayerSqnr(math.inf)}),
    )
    whole = SchemeResult(TENSOR, Verdict.DEGRADES, 12.0, Basis.MEASURED)
    findings = (
        spread("dw1", 4.71, Evidence.CONFIRMED),
        spread("dw2", None, Evidence.UNTESTED),
        spread("head", None, Evidence.UNTESTED),
    )
    told = tuple(replace(finding, metrics={**finding.metrics, "forecast_db": 6.0}) for finding in findings)
    return Run((replace(model, schemes=(whole,), layers=layers, findings=told),))


def nothing() -> Run:
    """None and empty wherever the types allow it; figures that are not finite elsewhere."""
    layers = (
        LayerRow("", "", "Conv", 1, False, math.nan, math.nan, None),
        LayerRow("", "out", "Gemm", 1, False, 0.0, 1.0, math.inf, -math.inf, math.inf, {}, {}, {}),
        LayerRow("", "dead", "Conv", 2, True, math.inf, 0.0, -math.inf, forecast={TENSOR: LayerSqnr(None, None)}),
        LayerRow("", "exact", "Conv", 2, True, 0.0, 1.0, None, measured={TENSOR: LayerSqnr(math.inf)}),
    )
    finding = Finding(
        code="QX001",
        name="nothing",
        severity=Severity.INFO,
        confidence=Confidence.LOW,
        message="",
        location=Location(),
        metrics={"a": math.inf, "b": math.nan, "c": None, "d": True, "e": 3, "f": "text"},
        measured_db=math.inf,
        evidence=Evidence.CONFIRMED,
    )
    schemes = (
        SchemeResult(TENSOR, None, None, Basis.FORECAST),
        SchemeResult(CHANNEL, Verdict.SURVIVES, None, Basis.PROBE),
        SchemeResult("int4", Verdict.BREAKS, -math.inf, Basis.MEASURED, note="The output is constant."),
        SchemeResult("exact", Verdict.SURVIVES, math.inf, Basis.MEASURED, agreement=1.0),
        SchemeResult("nan", None, math.nan, Basis.MEASURED, note="The output is not a number."),
    )
    return Run((ModelResult("", "", 0, "float", schemes, layers, (finding,)),))


def empty() -> Run:
    """No model could be read."""
    return Run((), (Failure("broken.onnx", "broken.onnx: not an ONNX file; export it again"),))


def hostile() -> Run:
    """Every text of a run is an attack on some format."""
    models = []
    for index, text in enumerate(HOSTILE):
        other = HOSTILE[(index + 3) % len(HOSTILE)]
        finding = Finding(
            code="QW001",
            name=text,
            severity=Severity.ERROR,
            confidence=Confidence.HIGH,
            message=f"Here is {text}.",
            location=Location(f"main/{other}", text, f"{other}.Conv", text),
            metrics={text: other},
            remedy=text,
            snippet=f"{text}\n{other}",
            claim=Claim(Subject.ACTIVATION, text, text, 10.0),
            evidence=Evidence.REFUTED if index % 3 == 2 else Evidence.UNTESTED,
            note=text,
            causes=(text, other),
            cure=Cure(text, (0, 7), text),
        )
        sqnr = {TENSOR: LayerSqnr(float(index), index - 2.0), text: LayerSqnr(1.0)}
        layer = LayerRow(text, other, text, 1, index % 2 == 0, 2.0, 0.5, 20.0, -1.0, 2.0, sqnr, sqnr, sqnr)
        models.append(
            ModelResult(
                path=text,
                sha256="00" * 32,
                opset=13,
                format=text,
                schemes=(
                    SchemeResult(TENSOR, Verdict.BREAKS, 1.0, Basis.PROBE, note=text),
                    SchemeResult(text, None, None, Basis.MEASURED, note=text),
                ),
                layers=(layer, layer),
                findings=(finding, finding),
                suppressed=(finding,),
                calibration=CalibrationSummary(text, other, 4, 0, synthetic=True),
                untested_because=text,
                notes=(text,),
                seconds={text: 1.0},
                rule_crashed=True,
                trials=Trials(2, 4, 4, (TrialFigure(text, other, 4, 1.0, None),), (figure(text, 1, None),), (text,)),
            )
        )
    return Run(tuple(models), (Failure(HOSTILE[0], HOSTILE[1]),))


def costly() -> Run:
    """A model whose loss is made where there is no layer."""
    (model,) = small().models
    alone = (
        ("image", Subject.ACTIVATION, "", "", 40.0),
        ("stem/bn_out", Subject.WEIGHT, "stem", "Conv", 33.0),
        ("stem/bn_out", Subject.ACTIVATION, "stem", "Conv", math.inf),
        ("masked", Subject.ACTIVATION, "attention/Add", "Add", 3.0),
        ("chosen", Subject.ACTIVATION, "", "Softmax", 12.0),
        ("head/bn_out", Subject.WEIGHT, "head", "Conv", 10.0),
    )
    noise = sum(10 ** (-row[-1] / 10) for row in alone)
    rows = tuple(TensorRow(*row, 10 ** (-row[-1] / 10) / noise) for row in alone)
    broken, degraded = model.schemes
    schemes = (replace(broken, verdict=Verdict.SURVIVES), replace(degraded, tensors=rows, tensors_basis=Basis.MEASURED))
    # The whole of a layer is measured only where that is asked for.
    alone_only = {
        row.output: {k: replace(v, sqnr_db=None) for k, v in (row.measured or {}).items()} for row in model.layers
    }
    layers = tuple(replace(row, measured=alone_only[row.output]) for row in model.layers)
    return Run((replace(model, schemes=schemes, layers=layers),))


def compared(run: Run) -> Comparison:
    """The first model of a run as the quantised file of a comparison."""
    reference = ComparedFile("float.onnx", "0" * 64, 13, "float", 1)
    return Comparison(reference, run.models[0], classifier=None, rows=())


ALL = {
    "costly": costly,
    "small": small,
    "large": large,
    "chained": chained,
    "tried": tried,
    "remedied": remedied,
    "quantised": quantised,
    "forecast_only": forecast_only,
    "contested": contested,
    "nothing": nothing,
    "empty": empty,
    "hostile": hostile,
}
