"""Train the networks, then measure them.

    python -m bench.study train OUT [--only NAME ...] [--epochs 30] [--every 5] [--seed 0]
    python -m bench.study measure OUT RESULTS [--only NAME ...] [--trials 5] [--calibration 200]

`train` needs the extra `study`; it writes to the folder OUT the images, an ONNX file of every network at every
checkpoint, and the finished networks. `measure` needs nothing but the package; it writes tables and figures to RESULTS
and, beside the networks, what quantisation does to them in the form that bench/scorecard.py reads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from .networks import NETWORKS
from .store import Store


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the two steps."""
    parser = argparse.ArgumentParser(prog="python -m bench.study", description=__doc__.split("\n", 1)[0])
    steps = parser.add_subparsers(dest="step", required=True)
    trainer = steps.add_parser("train", help="train and export")
    trainer.add_argument("--epochs", type=int, default=30)
    trainer.add_argument("--seed", type=int, default=0, help="of the first network; each has the next")
    trainer.add_argument("--every", type=int, default=5, help="epochs between two checkpoints")
    measurer = steps.add_parser("measure", help="quantise, measure, write tables and figures")
    for step in (trainer, measurer):
        step.add_argument("out", type=Path, help="folder of the networks")
        step.add_argument("--only", nargs="+", choices=[network.name for network in NETWORKS], metavar="NAME")
    measurer.add_argument("results", type=Path, help="folder of the tables and figures")
    measurer.add_argument("--trials", type=int, default=5, help="quantisations of each network")
    measurer.add_argument("--calibration", type=int, default=200, help="images of a quantisation, in no other one")
    chosen = parser.parse_args(arguments)
    networks = [network for network in NETWORKS if chosen.only is None or network.name in chosen.only]
    start = time.perf_counter()
    if chosen.step == "train":
        from .training import train_all  # noqa: PLC0415  # the other step does without torch

        train_all(networks, Store(chosen.out), chosen.epochs, chosen.every, chosen.seed)
    else:
        from .study import measure_all  # noqa: PLC0415

        measure_all(networks, Store(chosen.out), chosen.results, chosen.trials, chosen.calibration)
    wall, busy = (time.perf_counter() - start) / 60, time.process_time() / 60
    print(f"{wall:.1f} minutes, {busy:.1f} minutes of processor time")


if __name__ == "__main__":
    main()
