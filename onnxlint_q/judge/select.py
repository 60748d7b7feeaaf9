"""Which rules run: select replaces the default set, extend-select adds, ignore removes.

A selector is a code, the prefix of one, a name, or ALL, in any case. The longest selector that matches a rule decides;
between equally long ones `ignore` wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxlint_q.errors import did_you_mean
from onnxlint_q.judge.rule import Rule

ALL = "ALL"


@dataclass(frozen=True, slots=True)
class Selection:
    """The words of the command line or of the configuration."""

    select: tuple[str, ...] = (ALL,)
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    def choose(self, rules: Sequence[type[Rule]]) -> tuple[type[Rule], ...]:
        """The rules that run."""
        return tuple(rule for rule in rules if self._chosen(rule))

    def errors(self, rules: Sequence[type[Rule]], prefix: str = "") -> Iterator[str]:
        """What is wrong with each selector that matches no rule; `prefix` stands before the name of its option."""
        known = [name for rule in rules for name in (rule.code, rule.name)]
        for option, words in (("select", self.select), ("extend-select", self.extend_select), ("ignore", self.ignore)):
            for word in words:
                if not any(strength(word, rule.code, rule.name) >= 0 for rule in rules):
                    yield (
                        f"{prefix}{option} {word!r}: no rule matches{did_you_mean(word, known)}; see "
                        "`onnxlint-q rule --all`"
                    )

    def _chosen(self, rule: type[Rule]) -> bool:
        wanted = max((strength(word, rule.code, rule.name) for word in (*self.select, *self.extend_select)), default=-1)
        unwanted = max((strength(word, rule.code, rule.name) for word in self.ignore), default=-1)
        return wanted > unwanted


def strength(word: str, code: str, name: str) -> int:
    """How exactly `word` means the rule with this code and name; -1 if it does not."""
    if word.lower() == name:
        return len(code)
    prefix = word.upper()
    if prefix == ALL:
        return 0
    return len(prefix) if prefix and code.startswith(prefix) else -1
