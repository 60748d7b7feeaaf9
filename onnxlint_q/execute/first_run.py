"""The first run of a model that nobody vouches for: whether it runs, and in the time and memory that it earns.

A few bytes can ask for any amount of work: a loop without an end, an operator on a huge tensor, constants that are made
while the model is loaded. What an honest model takes is known before it runs: its layers multiply the weights of the
file as often as their results have places. Until one sample has gone through, it gets a generous multiple of that.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from onnxlint_q.analysis.inputs.contents import find_contents
from onnxlint_q.analysis.measured import Measured
from onnxlint_q.errors import DataError
from onnxlint_q.execute.data.source import Sample, Source
from onnxlint_q.execute.data.synthetic import Contents, SyntheticSource
from onnxlint_q.execute.executable import as_stored
from onnxlint_q.execute.limits import USUAL, Asked, earn_memory, first_run_seconds
from onnxlint_q.execute.session import NotRunnableError, Session, TooLongError
from onnxlint_q.graph import Model, find_layers

Result = TypeVar("Result")
# Places of a result whose shape is not known: a picture of 64 x 64, or a long text.
_USUAL_PLACES = 1 << 12
_SECONDS_A_LOOK = 0.02
_MOST_WAITING = 8.0


def first_that_runs(model: Model, choices: Sequence[Mapping[str, tuple[int, ...]]], asked: Asked = USUAL) -> int | None:
    """Number of the first choice of shapes, by input, that ONNX Runtime runs; None where none does.

    Raises:
        TooLongError: trying them takes longer than an honest model of this size would.
    """
    weights = sum(math.prod(part.weight_shape) for layer in find_layers(model) for part in layer.operands)

    def attempt(session: Session) -> int | None:
        for number, shapes in enumerate(choices):
            inputs = tuple(replace(value, taken=shapes.get(value.name)) for value in model.inputs)
            contents = Contents(find_contents(replace(model, inputs=inputs)))
            with suppress(NotRunnableError, DataError):
                for sample in SyntheticSource(contents).take(inputs, 1):
                    session.run(sample)
                return number
        return None

    seconds = first_run_seconds(len(model.nodes), len(choices) * weights * _USUAL_PLACES)
    return _within(asked.seconds or seconds, model, attempt)


def run_once(measured: Measured, source: Source | None, asked: Asked = USUAL) -> None:
    """Let the model have the memory that its layers earn, and run one sample through it; what else fails is told later.

    Args:
        measured: the model.
        source: where samples come from; None for synthetic ones.
        asked: what the user allows in place of what it earns.

    Raises:
        TooLongError: it takes longer than it may.
    """
    model = measured.model
    multiplications, activations = _foreseen(measured)
    if asked.memory_gb is None:
        earn_memory(activations)
    source = source or SyntheticSource(Contents(find_contents(model)))

    def attempt(session: Session) -> None:
        samples: Sequence[Sample] = list(source.take(model.inputs, 1))
        for sample in samples:
            session.run(sample)

    seconds = first_run_seconds(len(model.nodes), multiplications)
    with suppress(DataError):
        _within(asked.seconds or seconds, model, attempt)


def _foreseen(measured: Measured) -> tuple[int, int]:
    """Multiplications of all layers for one sample, and values that they make."""
    multiplications = made = 0
    for facts in measured.layers:
        layer = facts.folded.layer
        known = measured.model.types.get(layer.output)
        shape = known.shape if known is not None else None
        values = layer.channels * _USUAL_PLACES
        if shape and None not in shape[1:]:
            values = math.prod(length or 1 for length in shape)
        weights = sum(math.prod(part.weight_shape) for part in layer.operands)
        multiplications += weights * values // max(layer.channels, 1)
        made += values
    return multiplications, made


def _within(seconds: float, model: Model, attempt: Callable[[Session], Result]) -> Result | None:
    """What comes of a session of the model, None where there is none.

    Seconds are those of the processor, as others may use it too; those of the clock end what only waits.

    Raises:
        TooLongError: they are over. The session ends when its operator does, which nothing can hasten.
        Exception: what the attempt raised.
    """
    sessions: list[Session] = []
    outcomes: list[Result | Exception | None] = []
    done = threading.Event()

    def work() -> None:
        try:
            sessions.append(Session(as_stored(model)))
            outcomes.append(attempt(sessions[0]))
        except NotRunnableError:
            outcomes.append(None)
        except Exception as error:  # of whatever kind: handed to the thread that waits, which raises it
            outcomes.append(error)
        finally:
            done.set()

    end, latest = time.process_time() + seconds, time.monotonic() + _MOST_WAITING * seconds
    threading.Thread(target=work, daemon=True).start()
    while not done.wait(_SECONDS_A_LOOK):
        if time.process_time() > end or time.monotonic() > latest:
            for session in sessions:
                session.stop()
            raise TooLongError(
                f"its first sample took longer than {seconds:.0f} seconds, which is far more than its layers need; "
                "--timeout allows more"
            )
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
