"""What a network is made into for each scheme before it is quantised: the networks that the search chooses from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial

from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, LAYERS_ONLY, Scheme
from onnxlint_q.execute.data.split import Split
from onnxlint_q.execute.progress import Progress
from onnxlint_q.execute.variants.experiment_runs import Errors
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.proof.mending.transaction import Mended, Mender
from onnxlint_q.rewrite.candidate import Refusal
from onnxlint_q.rewrite.rewriting import Rewrite
from onnxlint_q.workflow.mending.mend import Selection

Ways = Mapping[Scheme, tuple[Callable[[], Mended], ...]]
"""By scheme the networks to search in, that which costs least to run first; made when one is asked for."""


class Menders:
    """One model, mended for several schemes, each by itself."""

    def __init__(
        self, bench: Workbench, split: Split, schemes: Sequence[Scheme], selection: Selection, progress: Progress
    ) -> None:
        """Nothing is made yet.

        Args:
            bench: the float network, calibrated.
            split: samples that rewrites are judged on.
            schemes: to quantise for.
            selection: rewrites that may be applied.
            progress: told what is being done.
        """
        self._bench, self._split, self._progress = bench, split, progress
        self._selection = selection
        self._of = {scheme: self.of(scheme) for scheme in schemes}

    def of(self, scheme: Scheme) -> Mender:
        """What tries rewrites and judges them under one scheme."""
        own = replace(self._bench, measured=replace(self._bench.measured, schemes=(scheme,)))
        return Mender(own, self._split, self._progress)

    @property
    def first(self) -> list[Errors]:
        """What each scheme leaves of the model as it was given."""
        return [mender.first for mender in self._of.values()]

    def ways(self, *, chosen: bool) -> Ways:
        """All ways there are.

        Args:
            chosen: whether somebody chose the schemes; else layers only are tried as well, of the networks that were
                made for the whole.
        """
        found = {scheme: self._ways(mender) for scheme, mender in self._of.items()}
        for whole, layers in LAYERS_ONLY.items():
            if whole in found and (layers in found or not chosen):
                found[layers] = self._of_layers(self._of.get(layers) or self.of(layers), found[whole])
        return found

    def _ways(self, mender: Mender) -> tuple[Callable[[], Mended], ...]:
        """Without what takes longer to run, and with it."""
        wanted, growing = self._selection, self._growing
        first = cache(lambda: mender.through(wanted.without(one.name for one in growing).applied))

        def second() -> Mended:
            made = first()
            applies = any(not isinstance(one, Refusal) for rewrite in growing for one in made.found(rewrite))
            return mender.through(wanted.applied) if applies else made

        return (first, cache(second)) if growing else (first,)

    def _of_layers(self, mender: Mender, ways: tuple[Callable[[], Mended], ...]) -> tuple[Callable[[], Mended], ...]:
        """The ways of a whole scheme; what takes longer to run may go further where only layers are quantised."""
        return (*ways[:1], *(cache(partial(_further, mender, way, self._growing)) for way in ways[1:]))

    @cached_property
    def _growing(self) -> tuple[Rewrite, ...]:
        """Rewrites that may put nodes between others, which takes longer to run."""
        model, wanted = self._bench.measured.model, self._selection.applied
        return tuple(one for one in wanted if one.adds_nodes is not None and one.adds_nodes(model))


def with_the_finer(ways: Ways) -> Ways:
    """Those without one scale a tensor where there is one a channel: its noise is less, at no cost in a run."""
    spared = {INT8_PER_TENSOR, LAYERS_ONLY[INT8_PER_TENSOR]} if INT8_PER_CHANNEL in ways else set()
    return {scheme: own for scheme, own in ways.items() if scheme not in spared}


def _further(mender: Mender, way: Callable[[], Mended], rewrites: Sequence[Rewrite]) -> Mended:
    return mender.further(way(), rewrites)
