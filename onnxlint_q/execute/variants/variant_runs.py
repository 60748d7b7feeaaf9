"""Run variants beside the float model on the same samples and measure the error at the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import numpy.typing as npt

from onnxlint_q.cores import cores, on_all_cores
from onnxlint_q.execute.batch.batch_tensors import typed
from onnxlint_q.execute.executable import Executable, with_outputs
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.progress import Progress, silent
from onnxlint_q.execute.session import Session, too_long
from onnxlint_q.execute.tail import Tail, tail_of
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator
from onnxlint_q.execute.variants.references import References
from onnxlint_q.execute.variants.workbench import Workbench
from onnxlint_q.execute.workers import LateError, in_order
from onnxlint_q.graph import TensorType

Array = npt.NDArray[Any]
Sample = Mapping[str, Array]
Samples = Callable[[], Iterator[Sample]]
Key = TypeVar("Key", bound=Hashable)
_Asked: TypeAlias = tuple[Key | None, Sample, "Future[Mapping[str, Array]]"]
Watch = Callable[[Hashable, int, Sequence[Array], Sequence[Array]], None]
"""Is told of each run: the variant, the number of the sample, outputs of the float model, outputs of the variant."""
# As many runs as there are cores are on their way, each on one of them.
_THREADS = 1


def run_variants(
    bench: Workbench,
    variants: Mapping[Key, Callable[[], Executable]],
    samples: Samples,
    progress: Progress = silent,
    allowance: Allowance | None = None,
    watch: Watch | None = None,
) -> dict[Key, OutputError]:
    """Error of each variant of a network against its float model, by the variant's key.

    `samples` starts a fresh pass over the same samples each time it is called. A variant is built when its turn
    comes and dropped after it. When the time is over, variants that were not reached are left out. What is told of
    progress are runs, where the allowance knows how many samples there are; else variants.

    Raises:
        NotRunnableError: ONNX Runtime cannot load or run one of them.
        DataError: a sample cannot be read.
    """
    allowance = allowance or Allowance()
    reference, limits = bench.float_model, bench.limits
    keys = list(variants)
    size = max(1, min(limits.sessions, limits.session_bytes // max(reference.weight_bytes, 1)))
    rounds = [keys[start : start + size] for start in range(0, len(keys), size)]
    errors: dict[Key, OutputError] = {}
    each = allowance.samples or 1
    for done, chosen in enumerate(rounds):
        tick = partial(_tell, progress, done * size * each, len(chosen) * each, len(keys) * each)
        tick(0.0)
        if allowance.left > 0:
            errors |= _one_round(bench, chosen, variants, samples, allowance, len(rounds) - done, watch, tick)
    progress("", len(keys) * each, len(keys) * each)
    return errors


def _tell(progress: Progress, done: int, now: int, total: int, fraction: float) -> None:
    """That so much of what runs now is done."""
    progress("", done + int(fraction * now), total)


def _one_round(
    bench: Workbench,
    keys: Sequence[Key],
    variants: Mapping[Key, Callable[[], Executable]],
    samples: Samples,
    allowance: Allowance,
    rounds: int,
    watch: Watch | None,
    tick: Callable[[float], None],
) -> dict[Key, OutputError]:
    share = allowance.share(rounds)
    made = {key: variants[key]() for key in keys}
    loaded = _Loaded(bench, made, _tails(bench, made, samples))
    sums = {key: OutputErrorAccumulator(bench.alike) for key in keys}
    references = References(bench.measured.model, bench.outputs, bench.limits)
    share.begin()
    done, values, outputs = 0, list[Array](), None
    asked = loaded.asked(samples(), allowance)
    with closing(in_order(loaded.run, asked, cores(), bench.limits.seconds_per_run, loaded.stop)) as stream:
        try:
            for key, sample, found in stream:
                if key is None:
                    values, outputs = found, references.of(sample, found)
                    continue
                assert outputs is not None
                sums[key].add(outputs, found)
                if watch is not None:
                    watch(key, done, values, found)
                if key == keys[-1]:
                    done += 1
                    tick(share.fraction(done))
                    if not share.fits(done):
                        break
        except LateError as error:
            raise too_long(bench.limits.seconds_per_run) from error
    return {key: accumulator.result() for key, accumulator in sums.items() if accumulator.samples}


def _tails(bench: Workbench, variants: Mapping[Key, Executable], samples: Samples) -> dict[Key, Tail]:
    """What is to be computed of those variants that start within the network, as far as memory for what they read."""
    model = bench.measured.model
    found = {key: tail_of(bench.float_model, variant, model.types) for key, variant in variants.items()}
    if not any(found.values()):
        return {}
    shapes = {name: array.shape for name, array in next(samples(), {}).items()}
    types = typed(model, bench.float_model.proto, shapes)
    room = float(bench.limits.stream.output_bytes)
    held, tails = set[str](), dict[Key, Tail]()
    for key, tail in found.items():
        fresh = set(tail.starts) - held if tail is not None else set[str]()
        size = sum(_bytes(types.get(name)) for name in fresh)
        if tail is not None and size <= room:
            room -= size
            held |= fresh
            tails[key] = tail
    return tails


def _bytes(known: TensorType | None) -> float:
    """Size of a tensor, at most 8 bytes a value; infinite where it is not known."""
    if known is None or known.shape is None or None in known.shape:
        return math.inf
    return 8.0 * math.prod(length for length in known.shape if length is not None)


class _Loaded(Generic[Key]):
    """A network and some of its variants, of which only what is not in the network is computed.

    `None` stands for the network where others have their keys.
    """

    def __init__(self, bench: Workbench, variants: Mapping[Key, Executable], tails: Mapping[Key, Tail]) -> None:
        """Load all of them, some as tails.

        Raises:
            NotRunnableError: ONNX Runtime refuses one.
        """
        network = bench.float_model
        self._tails = tails
        self._patience = bench.limits.seconds_per_run
        self._outputs = [value.name for value in network.proto.graph.output]
        network = with_outputs(network, (name for tail in self._tails.values() for name in tail.starts))
        self._given = [value.name for value in network.proto.graph.output]
        parts = (self._tails[key].executable if key in self._tails else each for key, each in variants.items())
        sessions = on_all_cores(lambda each: Session(each, _THREADS, bench.limits), [network, *parts])
        self._sessions: dict[Key | None, Session] = dict(zip([None, *variants], sessions, strict=True))

    def asked(self, samples: Iterable[Sample], allowance: Allowance) -> Iterator[_Asked[Key]]:
        """All on each sample while there is time, the network first."""
        for sample in samples:
            values = Future[Mapping[str, Array]]()
            for key in self._sessions:
                if key is not None and not allowance.left:
                    return
                yield key, sample, values

    def run(self, _number: int, asked: _Asked[Key]) -> tuple[Key | None, Sample, list[Array]]:
        """The outputs of one of them; a variant that starts within the network waits for what it starts from.

        Raises:
            NotRunnableError: it fails.
        """
        key, sample, values = asked
        if key is None:
            return None, sample, self._network(sample, values)
        tail = self._tails.get(key)
        if tail is None:
            return key, sample, self._sessions[key].compute(sample)
        try:
            known = {**sample, **values.result(self._patience)}
        except TimeoutError as error:
            raise too_long(self._patience) from error
        found = self._sessions[key].compute({name: known[name] for name in tail.inputs})
        return key, sample, tail.completed(found, known)

    def _network(self, sample: Sample, values: Future[Mapping[str, Array]]) -> list[Array]:
        """Outputs of the network; those who wait for its values get them, or the reason why there are none."""
        try:
            made = dict(zip(self._given, self._sessions[None].compute(sample), strict=True))
        except Exception as error:  # of whatever kind: handed to those that wait, and on to the one that asked
            values.set_exception(error)
            raise
        values.set_result(made)
        return [made[name] for name in self._outputs]

    def stop(self) -> None:
        """Let what is on its way end."""
        for session in self._sessions.values():
            session.stop()
