"""A quantised file run with ONNX Runtime's default options, beside the same file computed as ONNX defines it."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from onnxlint_q.analysis.observed.deployed import ROUNDING_DB, Deployed, Differing, Refused
from onnxlint_q.execute import runtime
from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.deployment.alone import Alone, difference, given_to, model_of, operators_alone
from onnxlint_q.execute.executable import Executable, as_stored, ending_at
from onnxlint_q.execute.limits import DEFAULT_LIMITS, Limits
from onnxlint_q.execute.session import NotRunnableError, Session
from onnxlint_q.finding import Location
from onnxlint_q.graph import Model, Node
from onnxlint_q.graph.names import ROOT

Array = npt.NDArray[Any]
SAMPLES = 2
"""Kernels that read a parameter in their own way do so on every sample."""
_SECONDS = 20.0
# Operators that are looked at in one run of the whole file: what they read and give is held at once.
_AT_ONCE = 48
# A kernel may round to the next code; more than that it does not.
_ROUNDED_CODES = 1.0
# What an operator's result loses against what it reads, where it is worth a look alone.
_DROP_DB = 6.0
# Below it what is read is lost, and no further loss shows.
_LOST_DB = 10.0


def run_as_deployed(model: Model, samples: Sequence[Sample], limits: Limits = DEFAULT_LIMITS) -> Deployed:
    """Load and run a quantised file as a program does that asks for nothing, and look where that makes a difference.

    Args:
        model: the file.
        samples: a few; without any it is loaded only.
        limits: of the runs.
    """
    return _Trial(as_stored(model), model, samples, limits).result()


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why there are no results, and whether the model was loaded at least."""

    loaded: bool
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    executable: Executable
    model: Model
    samples: Sequence[Sample]
    limits: Limits

    def result(self) -> Deployed:
        version, count = runtime.version(), len(self.samples)
        plain = self._results(self.executable, self.samples, deployed=False)
        default = self._results(self.executable, self.samples, deployed=True)
        if isinstance(default, _Failure):
            plainly = not isinstance(plain, _Failure)
            refused = Refused(default.loaded, default.reason, self._blamed(default, plainly), plainly)
            return Deployed(version, count, refused)
        if isinstance(plain, _Failure) or not plain:
            return Deployed(version, count)
        sqnr = _worst_db(default, plain)
        differing = tuple(self._differing()) if sqnr < ROUNDING_DB else ()
        return Deployed(version, count, sqnr_db=sqnr, differing=differing)

    def _results(
        self, executable: Executable, fed: Sequence[Mapping[str, Array]], *, deployed: bool
    ) -> list[list[Array]] | _Failure:
        """All outputs of every sample."""
        loaded = False
        try:
            session = Session(executable, limits=self.limits, deployed=deployed)
            loaded = True
            return [session.run(feeds) for feeds in fed]
        except NotRunnableError as error:
            return _Failure(loaded, str(error))

    def _blamed(self, failure: _Failure, plainly: bool) -> Location:
        node = _named(self.model, failure.reason)
        if node is None and not failure.loaded:
            node = self._unloadable(failure.reason)
        elif node is None and plainly:
            node = next((cut.node for cut, *_, default in self._alone() if isinstance(default, _Failure)), None)
        return self.model.locate(node) if node is not None else Location()

    def _unloadable(self, reason: str) -> Node | None:
        """The operator that does not load alone, of those whose type the message names."""
        words = set(re.findall(r"\w+", reason))
        suspects = (node for node in self.model.nodes if node.op_type in words and node.graph == ROOT)
        for node in itertools.islice(suspects, _AT_ONCE):
            fed = given_to(self.model, node)
            if fed is not None:
                cut = Alone(node, (node,), tuple(fed), node.output, coded=False)
                alone = self._results(model_of(self.executable, self.model, cut, fed), (), deployed=True)
                if isinstance(alone, _Failure):
                    return node
        return None

    def _differing(self) -> Iterator[Differing]:
        for cut, plain, default in self._alone(suspicious=True):
            if isinstance(default, _Failure):
                continue
            apart = difference(*(_column(results, 0) for results in (default, plain)), coded=cut.coded)
            if not (cut.coded and apart.largest <= _ROUNDED_CODES) and apart.sqnr_db < ROUNDING_DB:
                yield Differing(self.model.locate(cut.node), cut.node.output, apart.sqnr_db)

    def _alone(
        self, *, suspicious: bool = False
    ) -> Iterator[tuple[Alone, list[list[Array]], list[list[Array]] | _Failure]]:
        """Operators that can stand alone, with their plain and their default results, as long as there is time.

        With `suspicious` those alone at whose results the whole file loses against its plain run.
        """
        end = time.monotonic() + _SECONDS
        every = tuple(operators_alone(self.model))
        for start in range(0, len(every), _AT_ONCE):
            cuts = every[start : start + _AT_ONCE]
            held = self._held(cuts, deployed=False)
            other = self._held(cuts, deployed=True) if suspicious and held else ()
            for cut in cuts if held else ():
                if time.monotonic() > end:
                    return
                if not other or _loses(cut, held, other):
                    fed = [{key: values[key] for key in cut.reads} for values in held]
                    executable = model_of(self.executable, self.model, cut, fed[0])
                    plain = self._results(executable, fed, deployed=False)
                    if not isinstance(plain, _Failure):
                        yield cut, plain, self._results(executable, fed, deployed=True)

    def _held(self, cuts: Sequence[Alone], *, deployed: bool) -> Sequence[Mapping[str, Array]]:
        """What operators read and give, of the first sample; empty where the file does not run like that."""
        samples = self.samples[:1]
        wanted = dict.fromkeys(key for cut in cuts for key in (*cut.reads, cut.result))
        inside = [name for name in wanted if name not in samples[0]]
        runs = self._results(ending_at(self.executable, inside), samples, deployed=deployed)
        if isinstance(runs, _Failure):
            return ()
        return [
            {**sample, **dict(zip(inside, values, strict=True))} for sample, values in zip(samples, runs, strict=True)
        ]


def _loses(cut: Alone, plain: Sequence[Mapping[str, Array]], default: Sequence[Mapping[str, Array]]) -> bool:
    """Whether the default run is worse at the result of an operator than at all that it reads."""

    def sqnr_db(key: str, *, coded: bool) -> float:
        ours, theirs = ([values[key] for values in runs] for runs in (plain, default))
        return difference(theirs, ours, coded=coded).sqnr_db

    at_result = sqnr_db(cut.result, coded=cut.coded)
    before = min((sqnr_db(key, coded=plain[0][key].dtype.kind in "iu") for key in cut.reads), default=math.inf)
    return at_result < ROUNDING_DB and (before - at_result > _DROP_DB or before < _LOST_DB)


def _column(runs: Sequence[Sequence[Array]], place: int) -> list[Array]:
    return [values[place] for values in runs]


def _worst_db(default: Sequence[Sequence[Array]], plain: Sequence[Sequence[Array]]) -> float:
    """At the worst output, over all samples."""
    columns = ((_column(default, place), _column(plain, place)) for place in range(len(plain[0])))
    return min((difference(theirs, ours, coded=False).sqnr_db for theirs, ours in columns), default=math.inf)


def _named(model: Model, reason: str) -> Node | None:
    """The operator that ONNX Runtime's message names; the name of a kernel begins with that of its operator."""
    patterns = (r"Name:'([^']+)'", r"In Node, \(\"([^\"]+)\"", r"Node \(([^()]+)\)")
    quoted = next(filter(None, (re.search(pattern, reason) for pattern in patterns)), None)
    said = quoted.group(1) if quoted is not None else ""
    found = (node for node in model.nodes if node.graph == ROOT and node.name and said.startswith(node.name))
    return max(found, key=lambda node: len(node.name), default=None)
