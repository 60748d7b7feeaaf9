"""What bench/level learns of networks that follow a known law, and the file that it writes."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxlint_q.forecast.expected.level import Level, Scores, Table, Traits, level

ROOT = Path(__file__).parents[2]
LAW = Table({"offset": 4.0, "attention": -5.0}, {"offset": 1.0}, {"offset": -0.5}, closeness_spread=0.2, bend=0.9)


@pytest.fixture(autouse=True)
def root_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def _rows(families: int = 30) -> Iterator[Any]:
    """One row a network, four networks a family, half of them with attention."""
    rows = import_module("bench.level.rows")
    draw = np.random.default_rng(5)
    for number in range(4 * families):
        family = number // 4
        network = rows.Network(f"n{number}", f"f{family}", "cnn", Path(), Path())
        traits = Traits(attention=family % 2 == 0, images=True, scores=Scores(10))
        raw = float(draw.uniform(0, 30))
        expected: Level = level(raw, traits, LAW)
        sqnr_db = expected.quantile(float(draw.uniform(0.001, 0.999)))
        given = Level(sqnr_db, 1e-3, 10, 0.0, float(draw.normal(-0.5, 0.2)), 1e-3, LAW.bend)
        yield rows.Row(network, "int8-per-tensor", "y", raw, traits, sqnr_db, given.agreement, 200.0)


def test_the_law_that_networks_follow_is_found() -> None:
    table = import_module("bench.level.fit").learn(list(_rows()))
    assert table.location["offset"] == pytest.approx(4.0, abs=1.0)
    assert table.location["attention"] == pytest.approx(-5.0, abs=1.5)
    assert table.spread["offset"] == pytest.approx(1.0, abs=0.35)
    assert table.closeness["offset"] == pytest.approx(-0.5, abs=0.2)


def test_told_chances_are_those_that_come_on_families_left_out() -> None:
    score = import_module("bench.level.score")
    cases = list(score.leave_one_family_out(list(_rows())))
    assert len(cases) == 120 and 0.7 <= np.mean([case.holds for case in cases]) <= 0.9
    right, base = (
        np.mean([score.brier(getattr(case, said), case.truth) for case in cases]) for said in ("chances", "base")
    )
    assert right < 0.8 * base
    assert "opposite" in score.summary(cases) and score.line(cases[0])


def test_the_table_is_written_as_python(tmp_path: Path) -> None:
    path = tmp_path / "made.py"
    import_module("bench.level.table").write(path, "forecast", LAW)
    made = runpy.run_path(str(path))
    assert made["FORECAST"] == LAW
