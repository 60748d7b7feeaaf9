"""Whether rewrites leave a model what it is, in whatever order and at whichever places they are made.

    python bench/fix_orders.py FOLDER [--rounds 3] [--samples 2] [--seed 0] [--data DATA] [--options FILE]
        [--preprocess NAME] [--only NAME ...]

Each round takes a float model of FOLDER, the smallest first, and goes through all rewrites of `rewrite/table.py` in a
random order, those that change the interface too. Each is looked for in what those before it made, with observations
of that in half of the rounds, and applied at a random part of its places. After each one the model is checked by
onnx.checker, loaded as a program loads it, and held against the given one: float outputs have to agree to 80 dB.

What is the same on the samples only (channels that were constant) is held against those samples. A row holds the
rewrites with their places, and the least SQNR in dB of the worst output; what is amiss stands behind it, and the exit
code is 1 then. FILE is as of mend.py; without data, samples are made up.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from against_quantizer import treatment

from onnxlint_q.analysis.experiment import UNCHANGED
from onnxlint_q.analysis.measured import Measured, measure
from onnxlint_q.errors import OnnxlintError
from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.source import Source
from onnxlint_q.execute.limits import USUAL
from onnxlint_q.execute.session import NotRunnableError, load_as_deployed
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.variant_runs import run_variants
from onnxlint_q.execute.variants.workbench import Workbench, workbench
from onnxlint_q.graph import Model, read_model
from onnxlint_q.graph.loading.save import save_model
from onnxlint_q.proof.mending.transaction import differs, restored
from onnxlint_q.proof.probing.inputs import made_up
from onnxlint_q.rewrite.candidate import Candidate
from onnxlint_q.rewrite.rewriting import Rewrite
from onnxlint_q.rewrite.table import REWRITES
from onnxlint_q.workflow.sizes import settled

Done = list[tuple[Rewrite, Sequence[Candidate]]]


@dataclass
class Round:
    """What one order did.

    Attributes:
        done: rewrites and the places where they were made, in order.
        least_db: SQNR of the worst output after any of them.
        amiss: what went wrong, in words.
    """

    done: Done
    least_db: float = math.inf
    amiss: str = ""


class Given:
    """A float model and samples of it."""

    def __init__(self, path: Path, source: Source | None, samples: int) -> None:
        """Read it.

        Raises:
            OnnxlintError: it cannot be read.
        """
        model, _ = settled(read_model(path), {}, source, USUAL)
        self.measured = measure(model)
        self.bench: Workbench = workbench(self.measured)
        self.samples = samples
        self.is_float = self.measured.is_float
        self.source = source or (made_up(self.bench) if self.is_float else None)

    def round(self, chance: random.Random) -> Round:
        """All rewrites in one order."""
        made, seen = Round([]), chance.random() < 0.5
        measured = self.measured
        for rewrite in chance.sample(REWRITES, len(REWRITES)):
            try:
                measured = self._after(measured, rewrite, made, chance, seen=seen)
            except (OnnxlintError, NotRunnableError) as error:
                made.amiss = f"{rewrite.name}: {' '.join(str(error).split())[:200]}"
            if made.amiss:
                break
        return made

    def _after(
        self, measured: Measured, rewrite: Rewrite, made: Round, chance: random.Random, *, seen: bool
    ) -> Measured:
        assert self.source is not None
        observations = observe(measured, self.source, self.samples) if seen else None
        places = [one for one in rewrite.find(measured, observations) if isinstance(one, Candidate)]
        part = chance.sample(places, chance.randint(1, len(places))) if places else []
        if not part:
            return measured
        changed = rewrite.apply(measured.model, part)
        made.done.append((rewrite, part))
        made.amiss = _unsound(changed)
        if not made.amiss:
            made.least_db = min(made.least_db, self._same(changed, made))
        return measure(changed)

    def _same(self, changed: Model, made: Round) -> float:
        """SQNR of the worst output; what is amiss is put down."""
        assert self.source is not None
        source, inputs = self.source, self.measured.model.inputs
        executable = restored(workbench(measure(changed, ())).executable(UNCHANGED), made.done)
        variants = {UNCHANGED: lambda: executable}
        error = run_variants(self.bench, variants, lambda: source.take(inputs, self.samples))[UNCHANGED]
        made.amiss = differs(error) if error.has_signal else ""
        return math.inf if error.worst_db is None else error.worst_db


def _unsound(model: Model) -> str:
    """Why others would not take a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.onnx"
        save_model(model, Path(folder), path.name)
        try:
            load_as_deployed(path)
            onnx.checker.check_model(str(path))
        except NotRunnableError as error:
            return f"it does not load: {error}"
        except onnx.checker.ValidationError as error:
            return f"it does not pass onnx.checker: {' '.join(str(error).split())[:200]}"
    return ""


def rounds(path: Path, chosen: argparse.Namespace, options: dict[str, Any]) -> Iterator[Round]:
    """All of one model, in one process; each has a seed of its own, so that one can be run again."""
    own = {key: value for key, value in options.get(path.stem, {}).items() if key != "labels"}
    source = None
    if own or chosen.data:
        source = treatment(own, chosen.data or "", preset(chosen.preprocess))
    given = Given(path, source, chosen.samples)
    for number in range(chosen.rounds if given.is_float else 0):
        yield given.round(random.Random(f"{path.stem} {chosen.seed + number}"))


def main() -> int:
    """Print a row a round; the exit code tells whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data")
    parser.add_argument("--options", type=Path)
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--only", nargs="+")
    chosen = parser.parse_args()
    options = json.loads(chosen.options.read_text()) if chosen.options else {}
    amiss = 0
    print("| model | rewrites | least dB | s | amiss |\n|---|---|---|---|---|")
    for path in sorted(chosen.models.glob("*.onnx"), key=lambda path: path.stat().st_size):
        if chosen.only is not None and path.stem not in chosen.only:
            continue
        start = time.perf_counter()
        try:
            for made in rounds(path, chosen, options):
                seconds, start = time.perf_counter() - start, time.perf_counter()
                told = ", ".join(f"{rewrite.name} {len(places)}" for rewrite, places in made.done) or "none"
                print(f"| {path.stem} | {told} | {made.least_db:.0f} | {seconds:.0f} | {made.amiss} |", flush=True)
                amiss += bool(made.amiss)
        except (OnnxlintError, NotRunnableError) as error:
            print(f"| {path.stem} | - | - | - | {' '.join(str(error).split())[:200]} |", flush=True)
    return 1 if amiss else 0


if __name__ == "__main__":
    sys.exit(main())
