"""What a model may take: memory, sessions, threads, time."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

if sys.platform == "linux":
    import resource


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of a streaming pass over the samples.

    Attributes:
        cores: processors that the samples are spread over; None for all that this process may use.
        output_bytes: activations that one session gives out at a time.
        work_bytes: activations that all samples in work hold together.
        batch: samples that one run takes: a small network is mostly calls, so fewer of them pay.
        batch_bytes: activations of these samples: those that leave the cache cost more than calls do.
        waiting_bytes: subsets that wait to be counted, in all collectors: counting costs the same for one sample as for
            many.
        least_waiting_bytes: a collector has at least that room, however many share it.
        counted: values of a tensor that its histogram counts, shared evenly among the samples.
        fewest_counted, most_counted: such values of one sample, at least and at most, whatever its share.
    """

    cores: int | None = None
    output_bytes: int = 96 << 20
    work_bytes: int = 192 << 20
    batch: int = 8
    batch_bytes: int = 4 << 20
    waiting_bytes: int = 16 << 20
    least_waiting_bytes: int = 1 << 20
    counted: int = 1 << 17
    fewest_counted: int = 1 << 10
    most_counted: int = 1 << 13


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of runs.

    Attributes:
        seconds_per_run: an untrusted graph may loop for ever; a single sample that takes longer is stopped.
        seconds_to_load: the same of loading one, which nothing can stop: it is left behind.
        sessions: variants that are open at once.
        session_bytes: their weights together, but one variant is always open.
        tensor_bytes: what the largest tensor of a graph with many variants may take in all of them; a run holds a few
            such tensors at once.
        weight_bytes: what all quantised weights of such a graph may take.
        fewest_variants: a network whose single activations are larger still gets so many a graph.
        archive_bytes: what an .npz may unpack to: it is held in memory as a whole, and a small file can unpack to any
            size.
        kept_bytes: samples that a source keeps which makes or decodes them, as they are asked for again and again.
        compared_values: values of one sample that a comparison of two files holds at once; in both files together they
            take about three times 4 bytes each.
        converted_bytes: weights of the largest model that is tried at another opset: onnx holds several copies.
        writing_seconds: what ONNX Runtime's quantiser may take.
        frontier_bytes: what lies between two pieces of a network that is run piece by piece, for all samples; of the
            float and the quantised network each.
        stream: bounds of a streaming pass.
    """

    seconds_per_run: float = 120.0
    seconds_to_load: float = 120.0
    sessions: int = 12
    session_bytes: int = 512 << 20
    tensor_bytes: int = 256 << 20
    weight_bytes: int = 256 << 20
    fewest_variants: int = 4
    archive_bytes: int = 4 << 30
    kept_bytes: int = 256 << 20
    compared_values: int = 48 << 20
    converted_bytes: int = 256 << 20
    writing_seconds: float = 900.0
    frontier_bytes: int = 384 << 20
    stream: StreamLimits = StreamLimits()


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Budget:
    """What a process may take that reads and runs models.

    Attributes:
        memory_bytes: private memory that it may ask for. Files that are mapped do not count, stacks of threads do.
        seconds: wall time until it is ended.
    """

    memory_bytes: int
    seconds: float

    @property
    def memory(self) -> str:
        """The memory, in words."""
        return f"{self.memory_bytes / 2**30:.2g} GB"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user allows; None for what is usual for models of that size.

    Attributes:
        memory_gb: gigabytes of private memory.
        seconds: wall time for one model.
    """

    memory_gb: float | None = None
    seconds: float | None = None

    def for_models(self, stored_bytes: int) -> Budget:
        """The budget for models that have so many bytes together.

        Weights are held a few times: as they are stored, rounded, and in the order that kernels like.
        """
        usual = Budget(USUAL_BYTES + BYTES_PER_STORED * stored_bytes, USUAL_SECONDS * (1 + stored_bytes / 2**30))
        return Budget(
            usual.memory_bytes if self.memory_gb is None else int(self.memory_gb * 2**30),
            usual.seconds if self.seconds is None else self.seconds,
        )


ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
"""For the environment, before numpy is loaded: its libraries multiply matrices in one thread.

Threads of theirs wait for each other by running. On a machine that does other things, two of them took up to 3.6 times
as long as one; sums do not depend on their number either.
"""
DEFAULT_SAMPLES = 32
MOST_SAMPLES = 1_000_000
USUAL = Asked()
USUAL_BYTES, BYTES_PER_STORED = 7 << 28, 6
"""Private memory for a small model, 1.75 GB, and what each byte of its weights adds."""
MOST_EARNED, BYTES_PER_VALUE = 9 << 28, 96
"""What the values add that the layers of a model make of a sample, 2.25 GB at most: a pass holds many samples."""
USUAL_SECONDS = 900.0
"""Wall time for a small model; so much more for each gigabyte of weights."""
PROVING = ("budget", "all")
"""How much is proven of what was found: what fits a budget, or everything on all samples."""
TIMES_PLAIN, LEAST_PROVING_SECONDS = 8, 10.0
"""The budget: so many times plain inference of all samples, and so much processor time in any case."""
Clock = Callable[[], float]
"""Seconds since any moment."""


def first_run_seconds(nodes: int, multiplications: int) -> float:
    """What loading a model and running one sample may take, in seconds of the processor.

    Several times what ONNX Runtime needs on one core: 0.1 ms a node, 5 billion multiplications a second.

    Args:
        nodes: of the model.
        multiplications: of its layers for the sample.
    """
    return 3.5 + nodes / 2000 + multiplications / 250e6


def earn_memory(values: int) -> None:
    """Let this process, if it is one that has a budget, have more memory.

    Args:
        values: that the layers of its model make of one sample.
    """
    if sys.platform == "linux":
        now, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = now + min(MOST_EARNED, BYTES_PER_VALUE * values)
        if now != resource.RLIM_INFINITY:
            limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


class Allowance:
    """Time for a set of runs, shared evenly among the parts that they are done in.

    Each part runs on as many samples as fit its share, so that none is left out because an earlier one was thorough.

    Attributes:
        fewest: samples that a part runs on whatever its share, as long as there is any time.
        samples: how many each part would like to run on; None where that is not known.
        estimate: seconds that all parts would take on every sample, as the first sample of the first part has it; None
            before that, and where it is not known how many samples there are.
        least: seconds that it took to prepare the last part, which nothing can stop; the next one should have as much.
    """

    def __init__(
        self,
        seconds: float = math.inf,
        samples: int | None = None,
        fewest: int = 1,
        aim: float = math.inf,
        clock: Clock = time.monotonic,
        patience: float | None = None,
    ) -> None:
        """The time starts now.

        Args:
            seconds: until all is over.
            samples: how many each part would like to run on; only what is told of the time depends on it.
            fewest: how many it runs on whatever its share, as long as there is any time.
            aim: seconds that the parts share; what is beyond is there for the fewest samples alone.
            clock: tells the time.
            patience: seconds of wall time to wait for a run that has begun; None for as long as there is time at all.
        """
        start = clock()
        self.now = clock
        self._end = start + seconds
        self._aim = start + min(seconds, aim)
        self.samples = samples
        self._patience = patience
        self.fewest = fewest
        self.estimate: float | None = None
        self.least = 0.0

    @property
    def left(self) -> float:
        """Seconds until all is over."""
        return max(self._end - self.now(), 0.0)

    @property
    def shared(self) -> float:
        """Seconds that the parts that are left share."""
        return max(self._aim - self.now(), 0.0)

    @property
    def patience(self) -> float:
        """Seconds of wall time to wait for a run that has begun."""
        return self.left if self._patience is None else self._patience

    def share(self, parts: int) -> Share:
        """That of the part which starts now, `parts` being left with it."""
        return Share(self, parts)

    def part(self, seconds: float, samples: int | None = None, aim: float = math.inf) -> Allowance:
        """One that is over after so many seconds, or when this one is; for `samples` and `aim` see above."""
        count = self.samples if samples is None else samples
        return Allowance(min(seconds, self.left), count, self.fewest, aim, self.now, self._patience)

    def learn(self, seconds: float, parts: int) -> None:
        """The first sample of one of so many parts took so long."""
        if self.estimate is None and self.samples is not None:
            self.estimate = seconds * self.samples * parts


class Share:
    """The time of one part, which starts when it is made.

    Attributes:
        most: seconds of wall time that a run which has begun is waited for.
    """

    def __init__(self, allowance: Allowance, parts: int) -> None:
        """One of so many parts that are left."""
        self.most = allowance.patience
        self._own = allowance.shared / parts
        self._allowance = allowance
        self._parts = parts
        self._start = self._first = allowance.now()

    def begin(self) -> None:
        """All is prepared, the first sample is next."""
        self._first = self._allowance.now()
        self._allowance.least = self._first - self._start

    def fraction(self, done: int) -> float:
        """How much of the part is over once `done` samples were run; 0 where nobody knows how many there are."""
        if self._allowance.samples is None:
            return 0.0
        now = self._allowance.now()
        of_samples = done / max(self._allowance.samples, done)
        return max(of_samples, min((now - self._start) / self._own, 1.0) if self._own > 0 else 1.0)

    def fits(self, done: int) -> bool:
        """Whether one more sample fits, `done` of them having been run."""
        now = self._allowance.now()
        each = (now - self._first) / done
        self._allowance.learn(each, self._parts)
        if done < self._allowance.fewest:
            return self._allowance.left > 0
        return now + each - self._start <= self._own
