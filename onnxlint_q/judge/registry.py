"""Rules from entry points: find, load, classify.

Built-in rules come through the same group as anybody else's. A package named by an entry point is walked, and every
concrete Rule subclass defined in one of its modules is a rule: there is no list to keep.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from onnxlint_q.errors import PluginError
from onnxlint_q.judge.plugins import BUILTIN, CODE, GROUP, NAME
from onnxlint_q.judge.rule import Rule


@dataclass(frozen=True, slots=True)
class RegisteredRule:
    """A rule class and the distribution it came from."""

    rule: type[Rule]
    source: str


def load_rules(points: Iterable[EntryPoint] | None = None) -> tuple[RegisteredRule, ...]:
    """All rules of all installed packages, ordered by code.

    Raises:
        PluginError: a package cannot be imported, a rule is malformed, two rules share a code or a name, or there is
            no rule at all, which means that onnxlint-q itself is not installed properly.
    """
    found = entry_points(group=GROUP) if points is None else points
    # Built-in rules go first, so that a clash is blamed on the newcomer.
    ordered = sorted(found, key=lambda point: (point.name != BUILTIN, point.name, point.value))
    taken: dict[str, RegisteredRule] = {}
    for point in ordered:
        source = point.dist.name if point.dist else point.value  # reads the package's whole description
        for rule in _rules_of(point):
            _register(taken, RegisteredRule(rule, source))
    rules = {entry.rule.code: entry for entry in taken.values()}
    if not rules:
        raise PluginError(
            f"no rules are installed (entry-point group {GROUP!r} is empty); install onnxlint-q, do not run it from a "
            "bare checkout: `pip install .`"
        )
    return tuple(rules[code] for code in sorted(rules))


def _rules_of(point: EntryPoint) -> Iterator[type[Rule]]:
    try:
        package = point.load()
        names = [package.__name__, *(module.name for module in _walk(package))]
        modules = [importlib.import_module(name) for name in sorted(names)]
    except Exception as error:  # a plug-in may fail in any way, and all of them mean the same
        raise PluginError(f"rule package {point.value!r} cannot be loaded: {error}; fix or uninstall it") from error
    for module in modules:
        for _, member in inspect.getmembers(module, inspect.isclass):
            own = member.__module__ == module.__name__
            if own and issubclass(member, Rule) and not inspect.isabstract(member):
                yield member


def _walk(package: object) -> Iterator[pkgutil.ModuleInfo]:
    path = getattr(package, "__path__", None)
    return iter(()) if path is None else pkgutil.walk_packages(path, f"{getattr(package, '__name__', '')}.")


def _register(taken: dict[str, RegisteredRule], entry: RegisteredRule) -> None:
    rule = entry.rule
    missing = [field for field in ("code", "name", "severity", "good", "bad") if not hasattr(rule, field)]
    if missing:
        raise PluginError(f"rule {rule.__qualname__} of {entry.source} has no {', '.join(missing)}")
    if not CODE.fullmatch(rule.code) or not NAME.fullmatch(rule.name):
        raise PluginError(
            f"rule {rule.__qualname__} of {entry.source}: code {rule.code!r} or name {rule.name!r} is not valid"
        )
    for key in (rule.code, rule.name):
        other = taken.get(key)
        if other is not None:
            raise PluginError(f"{key} of {entry.source} is already used by {other.rule.__qualname__} of {other.source}")
        taken[key] = entry
