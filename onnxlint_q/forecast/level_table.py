"""Coefficients of `level`, learnt by `bench/level.py`, which writes this file."""

from __future__ import annotations

from onnxlint_q.forecast.level import Table

FORECAST = Table(spread={"offset": 1.4})
PROBE = Table(spread={"offset": 0.7})
