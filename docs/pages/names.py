"""The page of public names: what `onnxlint_q/__init__.pyi` exports, with the first words of each docstring."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path

import onnxlint_q

from .markdown import cell, generated, sentence, table

_PACKAGE = Path(onnxlint_q.__file__).parent
_HEADING = "# "
_FIRST = "What a program calls"


def names() -> str:
    """One section a group, one row a name.

    Raises:
        ValueError: a name has no docstring.
    """
    lines = [
        generated("the docstrings"),
        "",
        "# Public names",
        "",
        "Everything that `import onnxlint_q` gives. [From Python](../api.md) shows how it is used;",
        "[a package of rules](../plugin/README.md) needs what stands behind the first group.",
    ]
    for title, members in groups().items():
        rows = ((f"`{name}`", cell(summary(name, module))) for name, module in members.items())
        lines += ["", f"## {title}", "", *table(("name", "what it is"), rows)]
    return "\n".join(lines) + "\n"


def groups() -> Mapping[str, Mapping[str, Path]]:
    """By title: public names, each with the file that its import names."""
    text = (_PACKAGE / "__init__.pyi").read_text("utf-8")
    lines = text.splitlines()
    found: dict[str, dict[str, Path]] = {}
    title = _FIRST
    start = 0
    for node in ast.parse(text).body:
        said = [line for line in lines[start : node.lineno - 1] if line.startswith(_HEADING) and line.endswith(".")]
        title = said[-1].removeprefix(_HEADING).rstrip(".") if said else title
        start = node.end_lineno or node.lineno
        if isinstance(node, ast.ImportFrom):
            module = _file(_PACKAGE, node.module or "")
            found.setdefault(title, {}).update({alias.name: module for alias in node.names})
    return found


def summary(name: str, file: Path) -> str:
    """The first paragraph of what the docstring of a public name says.

    Raises:
        ValueError: it has none.
    """
    value = getattr(onnxlint_q, name)
    own = value.__doc__ if inspect.isclass(value) or inspect.isroutine(value) else told(name, file)
    first = inspect.cleandoc(own or "").partition("\n\n")[0]
    if not first:
        raise ValueError(f"{name}: no docstring")
    return sentence(first)


def told(name: str, file: Path) -> str:
    """The string behind the assignment of a name, wherever the file has it from; empty if there is none."""
    body = ast.parse(file.read_text("utf-8")).body
    for node, behind in zip(body, [*body[1:], None], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            match behind:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    return text
                case _:
                    return ""
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            folder = _PACKAGE if not node.level else file.parents[node.level - 1]
            return told(name, _file(folder, (node.module or "").removeprefix("onnxlint_q").lstrip(".")))
    return ""


def _file(folder: Path, module: str) -> Path:
    path = folder.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
