"""Where the models made by fixtures/build.py lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before any test imports ONNX Runtime itself

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="session")
def models() -> Path:
    return FIXTURES / "models"


@pytest.fixture(scope="session")
def broken() -> Path:
    return FIXTURES / "broken"


@pytest.fixture(scope="session")
def calibration() -> Path:
    return FIXTURES / "data" / "calibration.npz"
