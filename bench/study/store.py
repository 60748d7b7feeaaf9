"""Where the trainer leaves what the measurements read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .digits import Digits


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of trained networks and the images they were trained on."""

    folder: Path

    @property
    def log(self) -> Path:
        """Loss and accuracy of every checkpoint."""
        return self.folder / "training.csv"

    def model(self, network: str) -> Path:
        """The finished network."""
        return self.folder / "models" / f"{network}.onnx"

    def truth(self, network: str) -> Path:
        """What quantisation does to it."""
        return self.folder / "truth" / f"{network}.json"

    def checkpoint(self, network: str, epoch: int) -> Path:
        """The network after so many epochs."""
        return self.folder / "checkpoints" / network / f"epoch_{epoch:03}.onnx"

    def checkpoints(self, network: str) -> dict[int, Path]:
        """All checkpoints by epoch, in order."""
        files = sorted((self.folder / "checkpoints" / network).glob("epoch_*.onnx"))
        return {int(file.stem.removeprefix("epoch_")): file for file in files}

    def save_digits(self, digits: Digits) -> None:
        """Keep the images, so that measuring needs no scikit-learn."""
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            self.folder / "digits.npz",
            train=digits.train,
            train_labels=digits.train_labels,
            test=digits.test,
            test_labels=digits.test_labels,
        )

    def digits(self) -> Digits:
        """The images that were kept."""
        with np.load(self.folder / "digits.npz") as kept:
            return Digits(kept["train"], kept["train_labels"], kept["test"], kept["test_labels"])
