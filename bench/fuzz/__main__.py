"""Give every command models that are nearly right, and tell what none of them may do.

    python -m bench.fuzz FOLDER [--how static|random|probe|compare|fix|quantize] [--mutants N] [--seconds S] [--seed K]
    python -m bench.fuzz FOLDER --again NAME [--how …] -o FILE

FOLDER holds sound models. A mutant is one of them with up to four mutations, and follows from its name, the seed and
its number, so the second form makes it again. Each is read or run as a user's file would be: in a process apart, within
2 GB and 10 s. Amiss is an error of onnxlint-q itself, a rule that crashed, a report that cannot be written, is no JSON,
or holds a raw control character. Native code that ends its process is no fault, as the process is there for it; it is
counted, as is what reaches a limit.

Of each kind of fault one mutant is printed, without the mutations that it does not need. Exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from .mutants import Mutant, Name, mutant, simpler
from .trial import HOW, Way, outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each kind of fault once, then the counts."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, metavar="FOLDER")
    parser.add_argument("--how", choices=HOW, default="static")
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="none is begun after it")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--batch", type=int, default=100, help="mutants that one process reads")
    parser.add_argument("--again", type=Name.parse, help="name of a mutant to write")
    parser.add_argument("-o", "--out", type=Path)
    chosen = parser.parse_args(arguments)
    way = HOW[chosen.how]
    sound = way.among({path.stem: path.read_bytes() for path in sorted(chosen.models.glob("*.onnx"))})
    if chosen.again is not None:
        made = mutant(sound, chosen.again, way.kinds)
        chosen.out.write_bytes(made.data)
        print(_described(made))
        return 0
    end = time.monotonic() + chosen.seconds
    counted: Counter[str] = Counter()
    faults: set[str] = set()
    for first in range(0, chosen.mutants, chosen.batch):
        if time.monotonic() > end:
            break
        numbers = range(first, min(first + chosen.batch, chosen.mutants))
        batch = [mutant(sound, Name(chosen.seed, number), way.kinds) for number in numbers]
        for made, outcome in zip(batch, outcomes(sound, batch, way), strict=True):
            counted[outcome.kind] += 1
            if outcome.fault and outcome.fault not in faults:
                faults.add(outcome.fault)
                least = _least(sound, made, way, outcome.fault)
                print(f"{outcome.fault}\n  {_described(least)}", flush=True)
    shown = ", ".join(f"{count} {kind}" for kind, count in counted.most_common())
    print(f"{chosen.how}, seed {chosen.seed}: {counted.total()} mutants, {shown}; {len(faults)} kinds of faults")
    return 1 if faults else 0


def _least(sound: Mapping[str, bytes], made: Mutant, way: Way, fault: str) -> Mutant:
    """The mutant without the mutations that the fault does not need."""
    for fewer in simpler(sound, made, way.kinds):
        (outcome,) = outcomes(sound, [fewer], way)
        if outcome.fault == fault:
            return _least(sound, fewer, way, fault)
    return made


def _described(made: Mutant) -> str:
    return f"{made.name} {made.model}: {'; '.join(filter(None, made.said.values()))}"


if __name__ == "__main__":
    sys.exit(main())
