"""Truth for every network of a corpus that has none yet: one process a network, with a limit on its time."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from .store import About, Corpus
from .truth import end_to_end, layers

# ONNX Runtime's dynamic quantiser is made for products of matrices.
# A busy machine gives a process a small part of its time.
_WAITING = 8
DYNAMIC_KINDS = frozenset({"transformer", "recurrent", "graph"})


def measure_all(corpus: Corpus, seconds: float, *, of_layers: bool, only: list[str] | None) -> None:
    """Measure what is missing, the smallest networks first.

    Args:
        corpus: the folder.
        seconds: of processor time that one network may take.
        of_layers: measure the layers of networks that have their end-to-end figures, instead of the latter.
        only: names to measure; all where it is None.
    """
    waiting = [about for about in corpus.all() if only is None or about.name in only]
    waiting = [about for about in waiting if _is_missing(corpus, about, of_layers=of_layers)]
    for about in sorted(waiting, key=lambda about: corpus.model(about.name).stat().st_size):
        start = time.perf_counter()
        why = _in_process(corpus, about, seconds, of_layers=of_layers)
        if why and not of_layers:
            corpus.failed(about.name).parent.mkdir(exist_ok=True)
            corpus.failed(about.name).write_text(why + "\n", encoding="utf-8")
        corpus.write_manifest()
        print(f"{about.name}: {why or 'measured'}, {time.perf_counter() - start:.0f} s", flush=True)


def measure_one(corpus: Corpus, name: str, seconds: float, *, of_layers: bool) -> None:
    """Write the truth of one network, or add its layers."""
    about = next(about for about in corpus.all() if about.name == name)
    model, arrays, path = corpus.model(name), corpus.arrays(name), corpus.truth(name)
    if of_layers:
        truth = json.loads(path.read_text(encoding="utf-8"))
        truth["layers"] = layers(model, arrays, seconds / 2)
    else:
        truth = end_to_end(model, arrays, dynamic=about.kind in DYNAMIC_KINDS)
    _write(path, json.dumps(truth, indent=1) + "\n")


def _is_missing(corpus: Corpus, about: About, *, of_layers: bool) -> bool:
    path = corpus.truth(about.name)
    if of_layers:
        return path.exists() and not json.loads(path.read_text(encoding="utf-8"))["layers"]
    return not path.exists() and not corpus.failed(about.name).exists()


def _in_process(corpus: Corpus, about: About, seconds: float, *, of_layers: bool) -> str:
    """Why there is no result; empty where there is one."""
    command = [
        sys.executable,
        "-m",
        "bench.study.corpus",
        "one",
        str(corpus.folder),
        about.name,
        "--seconds",
        str(seconds),
    ]
    command += ["--layers"] * of_layers
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds * _WAITING,
            check=False,
            preexec_fn=partial(_modest, seconds),
        )
    except subprocess.TimeoutExpired:
        return f"takes more than {seconds * _WAITING:g} s of wall time"
    if -done.returncode in {signal.SIGXCPU, signal.SIGKILL}:
        return f"takes more than {seconds:g} s of processor time"
    last = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
    return last[0][:300] if done.returncode else ""


def _modest(seconds: float) -> None:
    """One processor for so many seconds, and after everybody else: others work on this machine."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 5))
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    ready = path.with_suffix(".new")
    ready.write_text(text, encoding="utf-8")
    ready.replace(path)
