"""The verdict on a scheme as reports read it, and what it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from onnxlint_q.analysis.causes.roles import TensorRole
from onnxlint_q.analysis.observed.costs import MOST
from onnxlint_q.analysis.observed.top1 import Top1
from onnxlint_q.finding import Subject
from onnxlint_q.judge.verdict import Chances, Verdict


class Basis(StrEnum):
    """What a verdict rests on."""

    FORECAST = "forecast"
    PROBE = "probe"
    MEASURED = "measured"


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One weight or one activation in a report, quantised alone.

    Attributes:
        tensor: for a weight the key of its layer, else the activation.
        kind: which of the two it is.
        node, op_type: the operator that has the weight, or makes the activation; empty for an input of the model.
        sqnr_db: at the model's output; infinite where the outputs stay identical.
        share: fraction of the noise of all tensors, each alone.
        role: what it is in the network, as several of them are called.
        depth: place in data order, from 0 to 1.
    """

    tensor: str
    kind: Subject
    node: str
    op_type: str
    sqnr_db: float
    share: float
    role: TensorRole = TensorRole.OTHER
    depth: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputResult:
    """One output of the model under one scheme, or a part of one that joins several things.

    Attributes:
        name: of a part, the tensor before it was joined.
        holds: `class scores`, `values` or `no floats`.
        sqnr_db: None where the output equals the float model's, or is not judged.
        agreement: of class scores, fraction of rows whose largest class is the float model's; else None.
        interval: 95 % of such intervals hold the true agreement; None unless it was measured.
        verdict: None where it is not judged; that of the worst part where there are parts.
        chances: how likely each verdict is; None where it is not judged.
        interval_db: holds the measured SQNR in 80 of 100 cases; None for one that was measured.
        note: why it is not judged, or what would decide; empty else.
        assumed: what in the file says what it holds, in words; empty where nothing does.
        parts: of one that joins several things; each is judged by itself.
        of: the output that a part belongs to; empty for an output.
    """

    name: str
    holds: str
    sqnr_db: float | None = None
    agreement: float | None = None
    interval: tuple[float, float] | None = None
    verdict: Verdict | None = None
    note: str = ""
    assumed: str = ""
    parts: tuple[OutputResult, ...] = ()
    of: str = ""
    chances: Chances | None = None
    interval_db: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the file that the quantiser makes of a model as it is is of no use.

    Attributes:
        fault: what such a file does: `does not load`.
        once: when the figures are those of the file: `exported at opset 13`.
        remedy: what to do: `export the model at opset 13`.
    """

    fault: str
    once: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SchemeResult:
    """The verdict on one scheme, which is that on its worst output.

    Attributes:
        output_sqnr_db: with everything quantised, pooled over the outputs that are judged, finite; None with the reason
            in `note`.
        agreement: fraction of samples whose top-1 agrees with float, measured or forecast, of the worst output that
            holds class scores; None if none does.
        outputs: one by one.
        note: what weakens the figure, in words.
        uncertainty_db: two thirds of such figures lie within plus or minus this of a measurement; None for one.
        rest_share: fraction of the noise power from activations that are no layer's output; None unless forecast.
        ran: the model was run, whether or not that gave the figure.
        tensors: every weight and activation alone, in data order, as far as something can be said of them.
        tensors_basis: what their figures rest on; a run measures them where the model does not survive.
        unfollowed: a forecast in which the values behind some operator are made up.
        mended: the verdict once what a rewrite can mend is mended; None where there is nothing, or it changes nothing.
        chances: how likely each verdict is; None where nothing is known.
        interval_db: holds the measured `output_sqnr_db` in 80 of 100 cases; None for one that was measured.
        measured_as: what the run stands for, in words: quantiser, ranges, formats; empty where nothing was run.
        top1: how often the float and the quantised model are right; None without labels.
        ranges: where activations get their ranges if not from calibration, in words; else empty.
        left: how many layers stay in float, in words; empty where none does.
        loads_from: the opset from which on the quantised file loads, where that of the model is older and all figures
            are those of a model that has it; None where it loads.
        obstacle: why the quantised file is of no use, where all figures are those of a model that is mended; None where
            nothing is known to be in the way.
    """

    scheme: str
    verdict: Verdict | None
    output_sqnr_db: float | None
    basis: Basis
    agreement: float | None = None
    note: str = ""
    uncertainty_db: float | None = None
    rest_share: float | None = None
    ran: bool = False
    outputs: tuple[OutputResult, ...] = ()
    measured_as: str = ""
    top1: Top1 | None = None
    tensors: tuple[TensorRow, ...] = ()
    ranges: str = ""
    left: str = ""
    tensors_basis: Basis | None = None
    loads_from: int | None = None
    obstacle: Obstacle | None = None
    unfollowed: bool = False
    mended: Mended | None = None
    chances: Chances | None = None
    interval_db: tuple[float, float] | None = None

    @property
    def in_float(self) -> str:
        """What is not quantised before the model runs, `ranges` and `left` in one."""
        return "; ".join(filter(None, (self.ranges, self.left)))

    @property
    def ends(self) -> tuple[OutputResult, ...]:
        """The outputs, in place of those that join several things their parts."""
        return tuple(end for output in self.outputs for end in (output.parts or (output,)))

    @property
    def judged(self) -> tuple[OutputResult, ...]:
        """Those of `ends` that have a verdict."""
        return tuple(end for end in self.ends if end.verdict is not None)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `agreement`; None for a forecast."""
        known = [output for output in self.outputs if output.agreement is not None]
        return min(known, key=lambda output: output.agreement or 0.0).interval if known else None

    @property
    def worst(self) -> OutputResult | None:
        """The output, or part of one, that decides the verdict: of those with the worst the one that lost most."""
        return min(self.judged, key=self._standing, default=None)

    def _standing(self, end: OutputResult) -> tuple[bool, int, float]:
        held = end.chances.likeliest if end.verdict is Verdict.UNCERTAIN and end.chances is not None else end.verdict
        assert held is not None
        return end.verdict is not self.verdict, held.rank, math.inf if end.sqnr_db is None else end.sqnr_db

    @property
    def noise(self) -> tuple[TensorRow, ...]:
        """The fewest tensors that make up most of the noise, at least nine tenths, the most costly first."""
        found: list[TensorRow] = []
        for row in sorted(self.tensors, key=lambda row: -row.share):
            if row.share <= 0 or sum(one.share for one in found) >= MOST:
                break
            found.append(row)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Mended:
    """The verdict on a scheme for the rewritten model.

    Attributes:
        rewrites: their names.
        what: what they changed, in words that follow `with`.
        result: of the rewritten model.
        exact_db: what the rewrites leave of the float outputs (dB); None where these are identical or nothing ran.
    """

    rewrites: tuple[str, ...]
    what: str
    result: SchemeResult
    exact_db: float | None = None


@dataclass(frozen=True, slots=True)
class JointRemedy:
    """What makes a scheme fare better, tried as a whole.

    Attributes:
        scheme: the one that it is for.
        nodes_to_exclude: names of nodes that stay in float, all of them together; empty for one scale a channel.
        snippet: the call of `quantize_static`, as typed.
        before_db, after_db: SQNR of the worst output without and with it, on the same samples; None if it is perfect.
        before_agreement, after_agreement: top-1 agreement with float; None if the model is no classifier.
        samples: how many that were.
        held_out: they are no samples that ranges were taken from.
        coarse_only: only for hardware that has one scale a tensor; there is another remedy for all others.
        opset: export the model at this opset first; None if its own will do.
    """

    scheme: str
    nodes_to_exclude: tuple[str, ...]
    snippet: str
    before_db: float | None
    after_db: float | None
    before_agreement: float | None
    after_agreement: float | None
    verdict_before: Verdict | None
    verdict_after: Verdict | None
    samples: int
    held_out: bool
    coarse_only: bool = False
    opset: int | None = None
