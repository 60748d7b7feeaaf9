"""The use case of `quantize`: a float model and a goal in, the cheapest int8 file that reaches it out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from onnxlint_q.analysis.causes.widening import WIDENED
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.analysis.recipe import Recipe
from onnxlint_q.analysis.schemes import (
    PER_CHANNEL_OPSET,
    Quantizer,
    Scheme,
)
from onnxlint_q.errors import ModelError, UsageError
from onnxlint_q.execute.child import ChildEndedError, run_apart
from onnxlint_q.execute.data.labels import check_labels, read_labels
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import NotRunnableError
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.execute.writing.lines import Files, lines, obstacle
from onnxlint_q.execute.writing.write import NotWritableError, prepared_for, recipe_of, write_int8
from onnxlint_q.graph import Model
from onnxlint_q.graph.loading.external import external_files, stored_bytes
from onnxlint_q.graph.loading.save import save_model
from onnxlint_q.graph.names import ROOT
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.rule import Rule
from onnxlint_q.proof.mending.transaction import Mended
from onnxlint_q.proof.recipe.goal import Goal
from onnxlint_q.proof.recipe.search import TRIED_OBSERVERS, Attempt, Found, search
from onnxlint_q.workflow.assembly.outputs import result_of_run
from onnxlint_q.workflow.assembly.preview import scheme_results
from onnxlint_q.workflow.mending.files import written_whole
from onnxlint_q.workflow.mending.fix import float_model
from onnxlint_q.workflow.mending.made import errors_of_file, left_in_float, shares_of, weights_of
from onnxlint_q.workflow.mending.mend import REWRITE_NAMES, Selection, calibrated, told, verification, withheld
from onnxlint_q.workflow.mending.quantize_request import FLOAT_ENDING, RECIPE_ENDING, QuantizeRequest
from onnxlint_q.workflow.mending.quantized import AttemptRow, Quantized
from onnxlint_q.workflow.mending.ways import Menders, Ways, with_the_finer
from onnxlint_q.workflow.results import Basis, TakenShape
from onnxlint_q.workflow.sizes import notes_on


def quantize(
    path: Path,
    rules: Sequence[Rule],
    config: Config,
    request: QuantizeRequest,
    progress: Progress = silent,
    called: str = "",
    *,
    apart: bool = True,
) -> Quantized:
    """Make the int8 file that costs least of those that reach the goal; else the best one that was found.

    Args:
        path: the float model.
        rules: what it is linted with.
        config: of severities, schemes and levels.
        request: what to make.
        progress: told what is being done.
        called: what messages call a model that is no file of the user's.
        apart: in a process of its own, so that a crash of native code is an error like others.

    Raises:
        ModelError: the file cannot be read or trusted, run, or quantised. Nothing is written then.
        DataError: the samples or labels cannot be read or do not fit.
        UsageError: a shape or a recipe that is given does not fit.
    """
    with written_whole(request.out) as beside:
        assert beside is not None
        task = partial(_quantize, path, rules, config, replace(request, out=beside), called=called)
        budget = request.asked.for_models(stored_bytes(path))
        try:
            made = run_apart(task, progress, fresh=request.fresh, budget=budget) if apart else task(progress)
        except ChildEndedError as error:
            raise ModelError(
                f"{called or path}: could not be quantised: the process {error}; {error.advice}"
            ) from error
    out = request.out
    return replace(made, out=str(out), recipe_file=str(out.with_name(f"{out.stem}{RECIPE_ENDING}")))


def _quantize(
    path: Path, rules: Sequence[Rule], config: Config, request: QuantizeRequest, progress: Progress, called: str
) -> Quantized:
    clock = {"start": time.perf_counter()}
    progress("reading", 0, 0)
    measured, inputs = float_model(path, called, config, request.input_shapes, request.data, request.asked)
    followed = None
    if request.recipe is not None:
        followed, selection = _read_recipe(request.recipe)
        request = replace(request, selection=selection)
    clock["read"] = time.perf_counter()
    try:
        return _Making(measured, inputs, rules, config, request, progress).through(followed, clock)
    except NotRunnableError as error:
        name = measured.model.name
        raise ModelError(f"{name}: ONNX Runtime cannot run the model: {error}; nothing was written") from error
    except NotWritableError as error:
        raise ModelError(f"{measured.model.name}: cannot be quantised: {error}") from error


def _read_recipe(path: Path) -> tuple[Recipe, Selection]:
    """A recipe, and the rewrites that come before it."""
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"recipe {path}: cannot be read ({error}); `quantize` writes one") from error
    recipe = Recipe.from_json(held, str(path))
    names = held.get("rewrites", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{path}: `rewrites` is not a list of names")
    return recipe, Selection(tuple(names), () if names else REWRITE_NAMES)


class _Making:
    """One model on its way."""

    def __init__(
        self,
        measured: Measured,
        inputs: Sequence[TakenShape],
        rules: Sequence[Rule],
        config: Config,
        request: QuantizeRequest,
        progress: Progress,
    ) -> None:
        self.measured = measured
        self.inputs = inputs
        self.rules = rules
        self.config = config
        self.request = request
        self.progress = progress
        self.synthetic = request.is_synthetic
        basis = Basis.PROBE if self.synthetic else Basis.MEASURED
        self.judge = partial(result_of_run, basis=basis, levels=config.levels, by_class=not self.synthetic)
        limits = request.min_db, request.min_agreement, request.max_float
        self.goal = Goal(lambda error: self.judge("", error).verdict, *limits)

    def through(self, followed: Recipe | None, clock: dict[str, float]) -> Quantized:
        request, progress = self.request, self.progress
        self._check(self._schemes() if followed is None else (followed.scheme,))
        bench, divided = calibrated(self.measured, request.data, progress, WIDENED)
        labels = self._labels(divided)
        found = None
        if followed is None:
            menders = Menders(bench, divided, self._schemes(), request.selection, progress)
            found, chosen, recipe, ready, notes = self._searched(bench, divided, menders, clock)
            given = menders.first
        else:
            recipe, notes = followed, ()
            menders = Menders(bench, divided, (), request.selection, progress)
            chosen = menders.of(followed.scheme).through(request.selection.applied)
            clock["fix and search"] = time.perf_counter()
            ready = self._write(chosen, recipe)
            given = [chosen.given]
        held = withheld(chosen, request.selection)
        fixed = told(bench, chosen, divided, held, self.inputs, self.rules, self.config)
        out = request.out
        self._write_beside(ready, recipe, chosen)
        clock["write"] = time.perf_counter()
        progress("running what was written", 0, 0)
        error, counts = errors_of_file(bench, divided, out, labels, progress)
        weights = weights_of(self.measured.model, out, divided, bench.limits)
        clock["measure"] = time.perf_counter()
        reached = self.goal.reached(error)
        plain = {one: error for each in given for one, error in each.items()}
        times = list(clock.items())
        source = f"{out.stem}{FLOAT_ENDING}"
        return Quantized(
            path=self.measured.model.name,
            sha256=self.measured.model.sha256,
            opset=self.measured.model.opset,
            out=str(out),
            recipe_file="",
            verification=verification(bench, divided),
            observer=found.best.observer if recipe.scheme.is_calibrated and found is not None else "",
            shifted=len(recipe.shifts),
            rounded=len(recipe.rounded),
            fixed=fixed,
            plain=scheme_results(plain, self.config.levels, synthetic=self.synthetic),
            result=self.judge(recipe.scheme.name, error),
            goal=request.goal,
            reached=reached,
            why_not="" if reached else self._why_not(found, error),
            attempts=tuple(self._row(one, found.finer[one]) for one in found.attempts) if found is not None else (),
            excluded=recipe.excluded,
            wide=recipe.wide,
            macs=shares_of(chosen.bench.measured, divided, recipe),
            left=left_in_float(chosen.bench.measured, recipe.scheme),
            before=weights[0],
            after=weights[1],
            snippet=lines(recipe, Files(source, f"{out.stem}{RECIPE_ENDING}", out.name, bool(external_files(out)))),
            top1=counts,
            notes=(*notes_on(self.inputs), *notes),
            seconds={name: when - times[place][1] for place, (name, when) in enumerate(times[1:])},
        )

    def _searched(
        self, bench: Workbench, divided: Split, menders: Menders, clock: dict[str, float]
    ) -> tuple[Found, Mended, Recipe, Model, Sequence[str]]:
        """Search, and write what was found, as `_written` tells it.

        Where nobody chose, one scale a tensor is searched only if nothing else can be written.

        Raises:
            NotWritableError: nothing can be written.
        """
        chosen = self.config.schemes is not None
        ways = menders.ways(chosen=chosen)
        finer = ways if chosen else with_the_finer(ways)
        if len(finer) < len(ways):
            try:
                return self._written(self._found(bench, divided, finer, clock), finer)
            except NotWritableError:  # what stands in the way of one scale a channel does not in that of one a tensor
                pass
        return self._written(self._found(bench, divided, ways, clock), ways)

    def _found(self, bench: Workbench, divided: Split, ways: Ways, clock: dict[str, float]) -> Found:
        networks = {scheme: [_bench_of(way) for way in own] for scheme, own in ways.items()}
        observers = TRIED_OBSERVERS if self.request.data is not None else (bench.observer,)
        found = search(bench, networks, self.goal, divided, self.progress, observers)
        clock["fix and search"] = time.perf_counter()
        return found

    def _written(self, found: Found, ways: Ways) -> tuple[Found, Mended, Recipe, Model, Sequence[str]]:
        """Write the best attempt of those that ONNX Runtime's quantiser can write.

        Returns:
            What was found with that one as the best, its network, its recipe, the float model that was quantised, and
            what is to be known of schemes that could not be written.

        Raises:
            NotWritableError: there is none.
        """
        why: dict[Scheme, str] = {}
        for best in found.ranked:
            if best.scheme in why:  # what stands in the way is nearly always the scheme
                continue
            chosen = ways[best.scheme][best.network]()
            try:
                recipe = recipe_of(
                    replace(chosen.bench, observer=best.observer), best.experiment, best.shifts, best.steps
                )
                ready = self._write(chosen, recipe)
            except NotWritableError as error:
                why[best.scheme] = str(error)
                continue
            notes = [f"ONNX Runtime's quantiser cannot write {one.name}: {reason}" for one, reason in why.items()]
            return replace(found, best=best, reached=self.goal.reached(best.error)), chosen, recipe, ready, notes
        raise NotWritableError("; ".join(dict.fromkeys(why.values())))

    def _write(self, chosen: Mended, recipe: Recipe) -> Model:
        """Write the file of a recipe; the float model that it was made of."""
        self.progress("writing", 0, 0)
        ready = prepared_for(chosen.bench.measured, recipe)
        write_int8(ready, recipe, self.request.out)
        return ready

    def _schemes(self) -> tuple[Scheme, ...]:
        """Those that were asked for and can be written; else those of the network, but for weights of 4 bits."""
        schemes = tuple(self.measured.schemes)
        if self.config.schemes is None:
            return tuple(scheme for scheme in schemes if scheme.quantizer is not Quantizer.BLOCKS)
        newest = max(self.measured.model.opset, PER_CHANNEL_OPSET)  # a rewrite may raise it
        reasons = {scheme: obstacle(scheme, newest) for scheme in schemes}
        if all(reasons.values()):
            raise NotWritableError("; ".join(reasons.values()))
        return tuple(scheme for scheme in schemes if not reasons[scheme])

    def _check(self, schemes: Sequence[Scheme]) -> None:
        """That there is something to quantise, and nothing that no quantiser reads.

        Raises:
            NotWritableError: it is not so.
        """
        sparse = [tensor.values.name for tensor in self.measured.model.proto.graph.sparse_initializer]
        if sparse:
            raise NotWritableError(
                f"ONNX Runtime's quantiser reads no sparse initializers; store {sparse[0][:80]!r} as a dense one"
            )
        if not any(self.measured.is_quantisable(scheme) for scheme in schemes):
            layers = self.measured.layers
            inside = bool(layers) and all(layer.node.graph != ROOT for layer in layers)
            raise NotWritableError(
                "its layers all lie in the bodies of If, Loop or Scan, and these schemes leave those in float; export "
                "the model with one branch of each If, and loops unrolled, so that they lie in the main graph"
                if inside
                else "there is nothing in it that these schemes quantise"
            )

    def _labels(self, divided: Split) -> Sequence[int] | None:
        data = self.request.data
        if data is None or data.labels is None:
            return None
        labels = read_labels(data.labels, data.source)
        check_labels(labels, divided.used)
        return labels

    def _write_beside(self, ready: Model, recipe: Recipe, made: Mended) -> None:
        """The recipe, and the float model where it is wanted."""
        out, model = self.request.out, self.measured.model
        document = {
            **recipe.as_json(),
            "model": {"name": Path(model.name).name, "sha256": model.sha256},
            "rewrites": [step.rewrite.name for step in made.steps if step.kept],
        }
        text = json.dumps(document, indent=1, allow_nan=False)
        out.with_name(f"{out.stem}{RECIPE_ENDING}").write_text(f"{text}\n", encoding="utf-8")
        if self.request.keep_float:
            save_model(ready, out.parent, f"{out.stem}{FLOAT_ENDING}")

    def _why_not(self, found: Found | None, error: OutputError) -> str:
        """What stands between the file and the goal."""
        if found is None:
            return "The recipe does not reach it on these samples."
        if not error.has_signal:
            return "No output could be compared, so nothing is known of the file."
        if found.reached:
            return (
                f"The search reached it on its samples ({_decibels(found.best.error)}), but on others the file leaves "
                f"{_decibels(error)}. Give {'samples with --calibrate' if self.synthetic else 'more samples'}."
            )
        tried = f"{len(found.attempts)} ways were tried" if len(found.attempts) > 1 else "one way was tried"
        most = f"at most {100 * self.request.max_float:g} % of the multiplications out of 8 bits"
        return f"The file is the best that was found with {most}; {tried}."

    def _row(self, attempt: Attempt, finer: float) -> AttemptRow:
        return AttemptRow(
            scheme=attempt.scheme.name,
            observer=attempt.observer if attempt.scheme.is_calibrated else "",
            in_float=len(attempt.excluded),
            wide=len(attempt.wide),
            shifted=len(attempt.shifts),
            sqnr_db=attempt.error.worst_db,
            agreement=None if self.synthetic else attempt.error.agreement,
            reached=self.goal.reached(attempt.error),
            finer=finer,
            rounded=len(attempt.steps),
        )


def _bench_of(way: Callable[[], Mended]) -> Callable[[], Workbench]:
    return lambda: way().bench


def _decibels(error: OutputError) -> str:
    return "no noise" if error.worst_db is None else f"{error.worst_db:.1f} dB"
