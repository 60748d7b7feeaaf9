"""Learn how sure a forecast or a probe is, and check it on families and networks that nothing was learnt on.

    python -m bench.level CORPUS [--basis forecast|probe] [--held-out MODELS TRUTH] [--cache FOLDER] [--each] [--kept]
        [--write]

CORPUS is a folder as `python -m bench.study.corpus` makes it. Prints, leaving out one family at a time and by kind of
network: how often the likeliest verdict is right, how often where one is decided (60 %) and where it is sure (85 %),
verdicts that are the opposite, the Brier score beside that of the verdicts' shares in the other families, how often
the interval holds the measured SQNR, and the median error of the raw and the told figure. Then the same for networks
that were held out, and the table. `--write` puts it into onnxlint_q/forecast/expected/level_table.py. Raw
figures are kept in the cache, so a second run takes seconds; they are made anew when the code that they follow from
changes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onnxlint_q.forecast.expected import level_table

from .fit import learn
from .rows import Basis, Row, corpus, held_out, rows
from .score import Case, judge, leave_one_family_out, line, summary
from .table import write

BASES: tuple[Basis, ...] = ("forecast", "probe")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the scores and the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.level", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--basis", choices=BASES, default="forecast")
    parser.add_argument("--held-out", type=Path, nargs=2, metavar=("MODELS", "TRUTH"))
    parser.add_argument("--cache", type=Path, help="folder of raw figures; CORPUS/raw by default")
    parser.add_argument("--each", action="store_true", help="print every case")
    parser.add_argument("--kept", action="store_true", help="only networks whose raw figures are in the cache")
    parser.add_argument("--write", action="store_true", help="write the table into the package")
    chosen = parser.parse_args(arguments)
    cache = chosen.cache or chosen.corpus / "raw"
    known = list(rows(corpus(chosen.corpus), chosen.basis, cache, kept_only=chosen.kept))
    cases = list(leave_one_family_out(known))
    _tell("left out by family", cases, each=chosen.each)
    for kind in sorted({case.row.network.kind for case in cases}):
        print(f"  {kind:12}", summary([case for case in cases if case.row.network.kind == kind]))
    for scheme in dict.fromkeys(case.row.scheme for case in cases):
        print(f"  {scheme:18}", summary([case for case in cases if case.row.scheme == scheme]))
    table = learn(known, _said(known))
    if chosen.basis == "probe":
        # The agreement hangs on the SQNR that is measured, whatever foretold that; more networks have a forecast.
        known_best = level_table.FORECAST
        table = replace(
            table,
            closeness=known_best.closeness,
            closeness_spread=known_best.closeness_spread,
            bend=known_best.bend,
        )
    if chosen.held_out is not None:
        others = list(rows(held_out(*chosen.held_out), chosen.basis, cache, kept_only=chosen.kept))
        _tell("held out", list(judge(others, table, known)), each=True)
    print(table)
    if chosen.write:
        write(Path(level_table.__file__), chosen.basis, table)


def _tell(title: str, cases: Sequence[Case], *, each: bool) -> None:
    if each:
        print(*map(line, cases), sep="\n")
    print(f"{title}:", summary(cases))


def _said(known: Sequence[Row]) -> str:
    networks = {row.network.name for row in known}
    families = {row.network.family for row in known}
    return f"{len(networks)} networks of {len(families)} families, {len(known)} figures"


if __name__ == "__main__":
    main()
