"""How a quantised model is told to people, in any format."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxlint_q.report import words
from onnxlint_q.report.fix import phrases as fixing
from onnxlint_q.report.layout import Cell, Heading, Line, Table
from onnxlint_q.workflow.mending.quantized import AttemptRow, Milliseconds, Quantized, Weight
from onnxlint_q.workflow.results import SchemeResult

PLAIN = "Plain: what ONNX Runtime's quantiser makes of the model by default."
SYNTHETIC = (
    "Nothing about accuracy on real data was measured: ranges and figures come from synthetic inputs. "
    "Give samples with --calibrate."
)
_NAMES = 6
# Runs of one model differ by so much from minute to minute.
_SLOWER = 1.1


def headline(found: Quantized) -> str:
    """Whether the goal was reached, and on what where that is no data."""
    where = " on synthetic inputs" if found.verification.synthetic else ""
    if found.reached:
        return f"Reached{where}: {words.shown(found.goal)}."
    return f"Not reached{where}: {words.shown(found.goal)}. {words.shown(found.why_not)}".strip()


def warning(found: Quantized) -> str:
    """What has to be known before any figure is believed; empty where they come from data."""
    return SYNTHETIC if found.verification.synthetic else ""


def verification(found: Quantized) -> str:
    """What ranges come from, and what figures were measured on."""
    return fixing.verification(found.verification)


def lines(found: Quantized) -> Iterator[tuple[str, str]]:
    """What is told of the file: a word, and what there is to it."""
    yield "recipe", recipe(found)
    if found.fixed is not None and found.fixed.applied:
        done = ", ".join(rewrite.name for rewrite in found.fixed.applied)
        yield "fixed first", f"{done}; float outputs are {words.unchanged(found.fixed.float_sqnr_db)}"
    for what, names in (("in float", found.excluded), ("in 16 bits", found.wide)):
        if names:
            more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
            yield what, ", ".join(words.name(name, 60) for name in names[:_NAMES]) + more
    yield "multiplications", ", ".join(f"{words.percent(share)} in {name}" for name, share in found.macs.items())
    if found.left:
        kinds = ", ".join(f"{count} {words.name(kind, 40)}" for kind, count in found.left.items())
        yield "not supported", f"{kinds}: the quantiser leaves such layers in float"
    larger = ": larger, by nodes and scales" if found.after.bytes > found.before.bytes else ""
    yield "size", f"{_size(found.before)} → {_size(found.after)}{larger}"
    if found.before.latency is not None and found.after.latency is not None:
        times = f"{_time(found.before.latency)} → {_time(found.after.latency)}"
        yield "latency here", f"{times}: slower" if _is_slower(found) else times
    yield from _kind_of_scales(found)
    if found.top1 is not None:
        yield "labels", words.accuracy(found.top1)


def _is_slower(found: Quantized) -> bool:
    """Whether it takes longer by more than single runs differ."""
    before, after = found.before.latency, found.after.latency
    return (
        before is not None and after is not None and after.median > before.median and after.low > before.low * _SLOWER
    )


def _kind_of_scales(found: Quantized) -> Iterator[tuple[str, str]]:
    """Whether scales come from calibration or are those of each run, why, and what the other kind would do."""
    own = [row for row in found.attempts if row.scheme == found.result.scheme]
    others = [row for row in found.attempts if bool(row.observer) is not bool(found.observer)]
    if not own or not others:
        return
    best, other = max(own, key=_kept), max(others, key=lambda row: (row.reached, _kept(row)))
    kind, counter = ("static", "dynamic") if found.observer else ("dynamic", "static")
    if best.reached and not other.reached:
        why = f"{counter} is not enough"
    elif _kept(best) >= _kept(other):
        why = "it keeps more"
    elif best.finer < other.finer:
        why = "it leaves more multiplications in int8"
    else:
        why = "it is enough"
    figures = f"{words.decibel(_kept(best))}, and {words.decibel(_kept(other))} with {words.name(other.scheme, 60)}"
    call = f"; --scheme {words.name(other.scheme, 60)} makes that" if other.reached else ""
    yield "static or dynamic", f"{kind}, as {why}: {figures}, on the samples of the search{call}"


def _kept(row: AttemptRow) -> float:
    return math.inf if row.sqnr_db is None else row.sqnr_db


def recipe(found: Quantized) -> str:
    """`int8-per-tensor, ranges by mse, biases of 53 layers shifted, 4 nodes in float`."""
    said = [words.name(found.result.scheme, 60)]
    if found.observer:
        said.append(f"ranges by {words.name(found.observer, 40)}")
    if found.rounded:
        said.append(f"weights of {words.count(found.rounded, 'layer')} rounded for each other")
    if found.shifted:
        said.append(f"biases of {words.count(found.shifted, 'layer')} shifted")
    if found.wide:
        said.append(f"{words.count(len(found.wide), 'activation')} of 16 bits")
    if found.excluded:
        said.append(f"{words.count(len(found.excluded), 'node')} in float")
    return ", ".join(said)


def attempts(found: Quantized) -> Table:
    """What was tried, in order."""
    return Table(
        title="Tried, on the samples of the search",
        subject="scheme",
        kind="",
        headings=(
            Heading("ranges by", "how ranges come from the samples", numeric=False),
            Heading("nodes in\nfloat", "nodes that stay in float"),
            Heading("activations\nof 16 bits", "activations whose codes have 16 bits"),
            Heading("weights\nrounded", "layers with other codes than the nearest ones"),
            Heading("biases\nshifted", "layers whose bias takes up the mean error"),
            Heading("SQNR\ndB", "of the worst output"),
            Heading("same top\nclass %", "samples with the top class of the float model"),
            Heading("reached", "whether the goal is reached on these samples", numeric=False),
        ),
        lines=tuple(map(_attempt, found.attempts)),
        hidden=0,
        legend="",
    )


def _attempt(row: AttemptRow) -> Line:
    agreement = "-" if row.agreement is None else words.percent(row.agreement).removesuffix(" %")
    return Line(
        row.scheme,
        "",
        (
            Cell(row.observer or "-"),
            Cell(str(row.in_float), str(row.in_float)),
            Cell(str(row.wide), str(row.wide)),
            Cell(str(row.rounded), str(row.rounded)),
            Cell(str(row.shifted), str(row.shifted)),
            Cell("exact" if row.sqnr_db is None else words.figure(row.sqnr_db), str(row.sqnr_db or "")),
            Cell(agreement, str(row.agreement or "")),
            Cell("yes" if row.reached else "no"),
        ),
    )


def _size(weight: Weight) -> str:
    return words.size(weight.bytes)


def beside(found: Quantized) -> Table:
    """The float model, what was written, and what ONNX Runtime makes by default, side by side, as far as measured."""
    right = found.top1
    lines = [_side("float", found.before, None, right.float_accuracy if right is not None else None)]
    lines.append(
        _side(recipe(found), found.after, found.result, right.quantised_accuracy if right is not None else None)
    )
    lines += [_side(f"plain {words.name(plain.scheme, 60)}", None, plain, None) for plain in found.plain]
    return Table(
        title="Float against int8",
        subject="model",
        kind="",
        headings=(
            Heading("size\nMB", "of all its files"),
            Heading("latency\nms", "median of single runs on this machine"),
            Heading("tenth to\nninetieth %", "of these runs, ms", numeric=False),
            Heading("SQNR\ndB", "of the worst output"),
            Heading("same top\nclass %", "samples with the top class of the float model"),
            Heading("top-1\nright %", "samples whose top class is the label"),
        ),
        lines=tuple(lines),
        hidden=0,
        legend="What was not measured is left open",
    )


def _side(name: str, weight: Weight | None, result: SchemeResult | None, accuracy: float | None) -> Line:
    latency = weight.latency if weight is not None else None
    worst = result.worst if result is not None else None
    sqnr_db = None if result is None else result.output_sqnr_db if worst is None else worst.sqnr_db
    exact = result is not None and sqnr_db is None
    return Line(
        name,
        "",
        (
            Cell(f"{weight.bytes / 1e6:.2f}" if weight is not None else "-"),
            Cell(f"{latency.median:.3g}" if latency is not None else "-"),
            Cell(f"{latency.low:.3g} to {latency.high:.3g}" if latency is not None else "-"),
            Cell("exact", "inf") if exact else Cell(words.figure(sqnr_db)),
            _share(result.agreement if result is not None else None),
            _share(accuracy),
        ),
    )


def _share(value: float | None) -> Cell:
    return Cell("-") if value is None else Cell(words.percent(round(value, 3)).removesuffix(" %"))


def _time(latency: Milliseconds) -> str:
    """`12.1 ms (11.8 to 13.0)`."""
    return f"{latency.median:.3g} ms ({latency.low:.3g} to {latency.high:.3g})"
