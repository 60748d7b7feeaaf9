"""Every network trained and written out, one after the other."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence

import torch

from .digits import load_digits
from .export import export
from .networks import NETWORKS, Network
from .store import Store
from .train import Checkpoint, Recipe, train

COLUMNS = ("network", "seed", "epoch", "train_loss", "float_accuracy", "seconds")


def train_all(networks: Sequence[Network], store: Store, epochs: int, every: int, seed: int) -> None:
    """Train `networks` on one thread, each from the seed that is `seed` and its place in the list of all."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    store.save_digits(digits)
    rows: list[tuple[object, ...]] = []
    for network in networks:
        own, start = seed + NETWORKS.index(network), time.perf_counter()
        last: Checkpoint | None = None
        for last in train(network, digits, Recipe(epochs=epochs, every=every), own):
            export(network, last.state, store.checkpoint(network.name, last.epoch))
            seconds = f"{time.perf_counter() - start:.0f}"
            rows.append((network.name, own, last.epoch, f"{last.loss:.4f}", f"{last.accuracy:.4f}", seconds))
        assert last is not None
        export(network, last.state, store.model(network.name))
        print(f"{network.name}: {last.accuracy:.1%} after {last.epoch} epochs, {seconds} s", flush=True)
    with store.log.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
