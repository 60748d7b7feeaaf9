"""What is said of two releases, in words that the terminal and the page share."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxlint_q.report import words
from onnxlint_q.workflow.diff import Diff, LayerDiff, LayerLoss, PortDiff

SHOWN_DB = 1.0
"""Loss of a layer from which on it is listed; less is told with --verbose."""
SAME_DB = 0.05
"""Less is no difference."""
NOT_COMPARABLE = "no scheme has a figure in both releases that rests on the same"


def change(loss_db: float | None) -> str:
    """`-3.2 dB`, as the new release has so much less."""
    if loss_db is None:
        return ""
    if math.isinf(loss_db):
        return "was perfect" if loss_db > 0 else "is perfect"
    return "same" if abs(loss_db) < SAME_DB else f"{-loss_db:+.1f} dB"


def moved(one: PortDiff) -> str:
    """What became of an input or output."""
    old, new = (
        f"{port.dtype or 'unknown type'} {words.shown(port.shape, 80)}" if port is not None else ""
        for port in (one.old, one.new)
    )
    if one.moved:
        return "stands elsewhere in the order"
    if not old:
        return f"new, {new}"
    return f"{old} → {new}" if new else f"gone, {old}"


def layer(one: LayerDiff) -> str:
    """A layer by its name, both where it got another one, and what it computes."""
    return f"{names(one)} ({words.name(one.row.op_type, 20)})"


def names(one: LayerDiff) -> str:
    """The name of a layer; both where it got another one."""
    old, new = (words.name(words.layer_label(row), 56) if row is not None else "" for row in (one.old, one.new))
    return f"{old} → {new}" if old and new and old != new else new or old


def summary(changes: Diff) -> str:
    """What changed, counted; and the most that a scheme lost."""
    loss, limit = changes.loss_db, changes.max_loss_db
    parts = [words.count(len(changes.appeared), "new finding"), f"{len(changes.gone)} gone"]
    if changes.ports:
        parts.append(words.count(len(changes.ports), "change") + " of the interface")
    told = f"{', '.join(parts)}; "
    if loss is None:
        told += NOT_COMPARABLE
    elif math.isinf(loss):
        told += "a scheme that was perfect is not" if loss > 0 else "every scheme is perfect now"
    else:
        told += f"the most that a scheme lost is {max(loss, 0.0):.1f} dB"
    if limit is not None:
        told += f", {'over' if changes.fails else 'within'} --max-loss {limit:g}" if loss is not None else ""
    return told


def failing(changes: Diff) -> Iterator[str]:
    """The schemes that lost more than they may, or why that cannot be told."""
    limit = changes.max_loss_db
    if not changes.told:
        yield "a rule crashed" if changes.old.rule_crashed or changes.new.rule_crashed else NOT_COMPARABLE
    for one in changes.schemes:
        if limit is not None and one.loss_db is not None and one.loss_db > limit:
            yield f"{words.name(one.scheme, 40)} {change(one.loss_db)}, over --max-loss {limit:g}"


def worse(changes: Diff, least_db: float) -> list[tuple[LayerDiff, LayerLoss]]:
    """Layers that cost the output at least so much more (dB), each where it lost most; the worst first."""
    known = ((one, one.worst) for one in changes.layers)
    found = ((one, loss) for one, loss in known if loss is not None and loss.loss_db >= least_db)
    return sorted(found, key=lambda pair: -pair[1].loss_db)
