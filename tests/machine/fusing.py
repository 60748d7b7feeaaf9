"""A mark for tests that need ONNX Runtime to put kernels in the place of pairs."""

from __future__ import annotations

import pytest
from variation import VARIATION

FUSES = pytest.mark.skipif(VARIATION.unoptimised, reason="this machine puts no kernel in the place of pairs")
