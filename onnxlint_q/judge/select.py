"""Which rules run: select replaces the default set, extend-select adds, ignore removes.

A selector is a code, the prefix of one, a name, or ALL. The longest selector that matches a rule decides; between
equally long ones `ignore` wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onnxlint_q.errors import UsageError, did_you_mean
from onnxlint_q.judge.rule import Rule

ALL = "ALL"


@dataclass(frozen=True, slots=True)
class Selection:
    """The words of the command line or of the configuration."""

    select: tuple[str, ...] = (ALL,)
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def choose(self, rules: Sequence[type[Rule]]) -> tuple[type[Rule], ...]:
        """The rules that run.

        Raises:
            UsageError: a selector matches no rule.
        """
        _check_all_match((*self.select, *self.extend_select, *self.ignore), rules)
        return tuple(rule for rule in rules if self._chosen(rule))

    def _chosen(self, rule: type[Rule]) -> bool:
        wanted = max((_strength(word, rule) for word in (*self.select, *self.extend_select)), default=-1)
        unwanted = max((_strength(word, rule) for word in self.ignore), default=-1)
        return wanted > unwanted


def _strength(word: str, rule: type[Rule]) -> int:
    """How exactly `word` means `rule`; -1 if it does not."""
    if word == rule.name:
        return len(rule.code)
    if word == ALL:
        return 0
    return len(word) if word and rule.code.startswith(word) else -1


def _check_all_match(words: Iterable[str], rules: Sequence[type[Rule]]) -> None:
    known = [name for rule in rules for name in (rule.code, rule.name)]
    for word in words:
        if not any(_strength(word, rule) >= 0 for rule in rules):
            raise UsageError(f"no rule matches {word!r}{did_you_mean(word, known)}; see `onnxlint-q rule --all`")
