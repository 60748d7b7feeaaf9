"""Where the models lie that the tests read, and the machine that they run on."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import variation
from hypothesis import settings

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before any test imports ONNX Runtime itself

ROOT = Path(__file__).parents[1]
# Public networks, photos and what was measured on them; beside a checkout or not there.
SHARED = ROOT.parent / "shared"

# Where no bytecode is to be written beside sources, each of the processes that tests start would compile all of them.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(ROOT / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _varied_files() -> Path:
    """Scaled copies, gone when the run ends."""
    folder = Path(tempfile.mkdtemp(prefix="varied-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    variation.scaled_copy(ROOT / "fixtures" / "models", folder / "fixtures" / "models")
    for name in ("broken", "data"):
        shutil.copytree(ROOT / "fixtures" / name, folder / "fixtures" / name)
    return folder


if variation.Variation() != variation.VARIATION:
    variation.install()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(Path(variation.__file__).parent), os.environ.get("PYTHONPATH")))
    )
# What `fixtures/...` is relative to, for runs that name their files so.
HOME = _varied_files() if variation.VARIATION.weights else ROOT
FIXTURES = HOME / "fixtures"
if variation.VARIATION.weights:
    variation.scale_what_is_written()

# What a terminal or a build server wants to see is not what the tests are about. typer looks when it is imported.
for name in ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "NO_COLOR", "COLUMNS", "LINES"):
    os.environ.pop(name, None)

# The same examples on every machine and in every run.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


def public_network(name: str) -> Path:
    """The file of a public network; the test that asks for it is skipped where there is none."""
    stored = SHARED / "models" / name
    if not stored.is_file():
        pytest.skip(f"needs the public network {name} of ../shared")
    if not variation.VARIATION.weights:
        return stored
    varied = HOME / "public" / name
    return varied if varied.is_file() else variation.scaled_copy(stored, varied)


@pytest.fixture(scope="session")
def models() -> Path:
    return FIXTURES / "models"


@pytest.fixture(scope="session")
def broken() -> Path:
    return FIXTURES / "broken"


@pytest.fixture(scope="session")
def calibration() -> Path:
    return FIXTURES / "data" / "calibration.npz"
