"""Make a corpus of networks and measure what quantisation does to them.

python -m bench.study.corpus public FOLDER UNPACKED IMAGES
python -m bench.study.corpus study FOLDER OUT --seed N
python -m bench.study.corpus train FOLDER [--only PLAN ...] [--seed 0]
python -m bench.study.corpus cut FOLDER [--only NAME ...] [--cuts 3] [--seed 0]
python -m bench.study.corpus vary FOLDER --variants NAME ... [--only NAME ...] [--seed 0]
python -m bench.study.corpus measure FOLDER [--only NAME ...] [--layers] [--seconds 60]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .store import Corpus


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.study.corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    public = steps.add_parser("public", help="take networks out of unpacked packages")
    for name in ("folder", "unpacked", "images"):
        public.add_argument(name, type=Path)
    study = steps.add_parser("study", help="take networks over that the study trained")
    study.add_argument("folder", type=Path)
    study.add_argument("out", type=Path)
    study.add_argument("--seed", type=int, required=True)
    trainer = steps.add_parser("train", help="train small networks; needs the extra `study`")
    cutter = steps.add_parser("cut", help="add networks cut at inner tensors")
    cutter.add_argument("--cuts", type=int, default=3, help="of each network")
    varier = steps.add_parser("vary", help="add copies that quantise worse")
    varier.add_argument("--variants", nargs="+", required=True, metavar="VARIANT")
    for step in (trainer, cutter, varier):
        step.add_argument("folder", type=Path)
        step.add_argument("--seed", type=int, default=0)
    measurer = steps.add_parser("measure", help="measure every network that has no truth yet")
    one = steps.add_parser("one", help="measure one network, in this process")
    for step in (measurer, one):
        step.add_argument("folder", type=Path)
        step.add_argument("--layers", action="store_true", help="each weight alone, where the whole is known")
        step.add_argument("--seconds", type=float, default=60.0, help="that one network may take")
    for step in (trainer, cutter, varier, measurer):
        step.add_argument("--only", nargs="+", metavar="NAME", help="networks to take instead of all uncut, unchanged")
    one.add_argument("name")
    chosen = parser.parse_args(arguments)
    corpus = Corpus(chosen.folder)
    match chosen.step:
        case "public":
            from .public import take_public  # noqa: PLC0415

            take_public(corpus, chosen.unpacked, chosen.images)
        case "study":
            from .studied import take_study  # noqa: PLC0415

            take_study(corpus, chosen.out, chosen.seed)
        case "train":
            from .trained.plans import PLANS  # noqa: PLC0415
            from .trained.train import train_all  # noqa: PLC0415

            train_all(corpus, [plan for plan in PLANS if plan.name in (chosen.only or [plan.name])], chosen.seed)
        case "cut":
            from .cuts import cut_all  # noqa: PLC0415

            cut_all(corpus, chosen.only or corpus.originals(), chosen.cuts, chosen.seed)
        case "vary":
            from .variants import vary_all  # noqa: PLC0415

            vary_all(corpus, chosen.only or corpus.originals(), chosen.variants, chosen.seed)
        case "measure":
            from .measure import measure_all  # noqa: PLC0415

            measure_all(corpus, chosen.seconds, of_layers=chosen.layers, only=chosen.only)
        case "one":
            from .measure import measure_one  # noqa: PLC0415

            measure_one(corpus, chosen.name, chosen.seconds, of_layers=chosen.layers)


if __name__ == "__main__":
    main()
