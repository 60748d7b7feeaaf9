"""Writes the tables as Python."""

from __future__ import annotations

from pathlib import Path

from onnxlint_q.forecast.expected import level_table
from onnxlint_q.forecast.expected.level import Row, Table

_HEAD = '''"""Coefficients of `level`; written by `python -m bench.level CORPUS --write`.

They say how what is measured differs from a raw figure, learnt on networks whose truth was measured with this tool.
"""

from __future__ import annotations

from onnxlint_q.forecast.expected.level import Table
'''


def write(path: Path, basis: str, table: Table) -> None:
    """Put a table in place of the one for this basis."""
    tables = {"forecast": level_table.FORECAST, "probe": level_table.PROBE, basis: table}
    parts = [_HEAD, *(_written(name.upper(), tables[name]) for name in ("forecast", "probe"))]
    path.write_text("\n".join(parts), encoding="utf-8")


def _written(name: str, table: Table) -> str:
    return (
        f"{name} = Table(\n"
        f"    learnt_on={_quoted(table.learnt_on)},\n"
        f"    # dB added to the raw figure, as it was before it saturates\n"
        f"    location={_row(table.location)},\n"
        f"    # logarithm of the spread in dB\n"
        f"    spread={_row(table.spread)},\n"
        f"    # of class scores, logarithm to 10 of how close the best two are\n"
        f"    closeness={_row(table.closeness)},\n"
        f"    closeness_spread={table.closeness_spread},\n"
        f"    bend={table.bend},\n"
        ")\n"
    )


def _row(row: Row) -> str:
    if not row:
        return "{}"
    return "{\n" + "".join(f"        {_quoted(name)}: {value},\n" for name, value in row.items()) + "    }"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'
