"""The first lines that run: a signal ends the process in one line, however little of it has been imported."""

from __future__ import annotations

import gc
import os
import signal

from onnxlint_q.cli.terminal.signals import leave


def main() -> None:
    """Entry point of the console script."""
    # A shell may start its background jobs with a signal ignored; it stays so.
    caught = []
    for number, unset in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is unset:
            signal.signal(number, leave)
            caught.append(number)
    # What an import makes stays; looking through it for garbage is a tenth of the time that imports take.
    gc.disable()
    from onnxlint_q.execute.limits import ONE_THREAD

    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    from onnxlint_q.cli.app import main as run

    try:
        run()
    finally:
        # All is done and told. The interpreter would give signals back their default while it ends, which is to kill.
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
