"""Where rules come from, and what the sources of plug-ins say of theirs without running them.

To import a plug-in takes a second, as it imports what rules work with: too long for a shell that completes a word.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

GROUP = "onnxlint_q.rules"
BUILTIN = "builtin"
CODE = re.compile(r"[A-Z]{1,3}\d{3}")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def written_rules(points: Iterable[EntryPoint] | None = None) -> dict[str, str]:
    """Codes of the rules of plug-ins with their names, as they stand in the bodies of their classes.

    A rule that gets its code or name in another way is missing, and so is a package that cannot be found or read.
    """
    found = entry_points(group=GROUP) if points is None else points
    files = (file for point in found if point.name != BUILTIN for file in _files(point))
    return dict(sorted(rule for file in files for rule in _rules_in(file)))


def _files(point: EntryPoint) -> Iterator[Path]:
    try:
        spec: ModuleSpec | None = find_spec(point.module)
    except Exception:  # the packages around it are imported, and a plug-in may fail in any way
        return
    if spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        yield from Path(folder).rglob("*.py")
    if spec.origin is not None and not spec.submodule_search_locations:
        yield Path(spec.origin)


def _rules_in(file: Path) -> Iterator[tuple[str, str]]:
    try:
        text = file.read_text("utf-8")
        tree = ast.parse(text) if "onnxlint_q" in text else ast.Module([], [])
    except (OSError, ValueError, SyntaxError):
        return
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            said = dict(_said(node))
            code, name = said.get("code", ""), said.get("name", "")
            if CODE.fullmatch(code) and NAME.fullmatch(name):
                yield code, name


def _said(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """What a class calls by text."""
    for line in body.body:
        targets = (
            line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
        )
        value = line.value if isinstance(line, (ast.Assign, ast.AnnAssign)) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield from ((target.id, value.value) for target in targets if isinstance(target, ast.Name))
