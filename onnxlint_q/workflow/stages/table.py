"""The stages in their order.

Probe, inspect and observe what runs show; quantise layer by layer, whole, as the file is where preparing it makes a
difference, and tensor by tensor what the model does not survive; judge, prove the claims, try rewrites and other
remedies, try other samples. What a stage runs is imported when it is wanted: most checks want few.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from onnxlint_q.execute.progress import Progress
from onnxlint_q.judge.own_findings import PROBE_FAILED
from onnxlint_q.workflow.judging import judge
from onnxlint_q.workflow.overheard import unheard
from onnxlint_q.workflow.record import Record
from onnxlint_q.workflow.stages.stage import NO_ACCURACY, Fill, Stage, data_of


def _later(name: str) -> Fill:
    """A function of a module beside this one, `module.function`; a static check wants none, and imports neither."""
    module, _, function = name.partition(".")

    def fill(record: Record, progress: Progress) -> Record:
        made: Record = getattr(import_module(f"{__package__}.{module}"), function)(record, progress)
        return made

    fill.__qualname__ = name
    return fill


def _observed(record: Record) -> bool:
    return record.facts.observations is not None


def _can_differ(record: Record) -> bool:
    from onnxlint_q.execute.variants.unprepared import can_differ

    return record.bench is not None and can_differ(record.bench)


def _can_be_rewritten(record: Record) -> bool:
    from onnxlint_q.workflow.stages.proving import planners

    return any(planners(record))


def _judge(record: Record, _: Progress) -> Record:
    """With the findings of all rules."""
    lines: list[str] = []
    judged = judge(record.facts, record.rules, record.config, lines.extend if record.request.debug else unheard)
    return replace(record, judged=tuple(judged), debug=(*record.debug, *lines))


STAGES = (
    Stage(
        "fold",
        "folding",
        wanted=lambda record: record.facts.is_float and (record.request.probe or record.request.data is not None),
        fill=_later("running.fill_fold"),
    ),
    Stage(
        "probe",
        "probing",
        wanted=lambda record: record.request.probe,
        fill=_later("running.fill_probe"),
        option="--probe",
        missing="The probe failed",
        kind=PROBE_FAILED,
        float_only=True,
    ),
    Stage(
        "inspect",
        "inspecting the data",
        wanted=lambda record: record.request.data is not None,
        fill=_later("running.fill_inspect"),
        option="--calibrate",
        missing="The model was not run on the data",
    ),
    Stage(
        "deploy",
        "running it with default options",
        wanted=lambda record: record.request.runs and not record.facts.is_float,
        fill=_later("running.fill_deploy"),
        option="--calibrate",
        missing="The file was not run with default options",
    ),
    Stage(
        "observe",
        "running it on the data",
        wanted=lambda record: record.facts.data is not None,
        fill=_later("running.fill_observe"),
        option="--calibrate",
        missing="The model was not run on the data",
    ),
    Stage(
        "float16",
        "running it as float16",
        wanted=lambda record: (
            record.facts.in_half
            and (record.split is not None or record.request.data is None)
            and record.bench is not None
        ),
        fill=_later("running.fill_as_half"),
        option="--calibrate",
        missing="It was not run as float16",
    ),
    Stage(
        "layers",
        "quantising its layers",
        wanted=lambda record: _observed(record) and data_of(record).layers,
        fill=_later("running.fill_measure_layers"),
        option="--measure layers",
        missing="The layers were not quantised one by one",
        float_only=True,
    ),
    Stage(
        "labels",
        "reading the labels",
        wanted=lambda record: _observed(record) and data_of(record).labels is not None,
        fill=_later("running.fill_labels"),
        option="--labels",
        missing=NO_ACCURACY,
        float_only=True,
    ),
    Stage(
        "schemes",
        "quantising it",
        wanted=lambda record: _observed(record) and record.facts.is_float,
        fill=_later("running.fill_measure_schemes"),
        option="--calibrate",
        missing="No claim was tested and no scheme was measured",
    ),
    Stage(
        "costs",
        "quantising its tensors one by one",
        wanted=lambda record: record.whole is not None,
        fill=_later("proving.fill_measure_costs"),
        option="--calibrate",
        missing="The tensors were not quantised one by one",
    ),
    Stage(
        "unprepared",
        "quantising it as it is",
        wanted=lambda record: record.whole is not None and _can_differ(record),
        fill=_later("proving.fill_unprepared"),
        option="--calibrate",
        missing="Quantising without quant_pre_process was not tried",
    ),
    Stage("judge", "judging", wanted=lambda record: True, fill=_judge),
    Stage(
        "prove",
        "testing claims",
        wanted=lambda record: record.whole is not None,
        fill=_later("proving.fill_prove"),
        option="--calibrate",
        missing="No claim was tested",
    ),
    Stage(
        "rewrites",
        "trying rewrites",
        wanted=lambda record: record.whole is not None and _can_be_rewritten(record),
        fill=_later("proving.fill_rewrite"),
        option="--calibrate",
        missing="Rewrites were not tried",
    ),
    Stage(
        "remedies",
        "trying remedies",
        wanted=lambda record: record.facts.is_float and (record.probe is not None or _observed(record)),
        fill=_later("proving.fill_try_remedies"),
        option="--calibrate",
        missing="Remedies were not tried",
    ),
    Stage(
        "joint remedy",
        "trying which nodes to leave in float",
        wanted=lambda record: record.whole is not None and not data_of(record).source.synthetic,
        fill=_later("proving.fill_leave_in_float"),
        option="--calibrate",
        missing="No list of nodes to leave in float was tried",
    ),
    Stage(
        "fix preview",
        "trying what fix would do",
        wanted=lambda record: record.request.fix_preview and record.whole is not None,
        fill=_later("proving.fill_preview"),
        option="--fix-preview",
        missing="What fix would do was not tried",
    ),
    Stage(
        "trials",
        "calibrating on other samples",
        wanted=lambda record: _observed(record) and data_of(record).trials > 0,
        fill=_later("running.fill_trials"),
        option="--trials",
        missing="The trials did not run",
        float_only=True,
    ),
)
"""What follows once the file is known, in this order."""
