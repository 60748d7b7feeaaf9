"""What the command line says of the configuration: it wins over the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnxlint_q.errors import UsageError
from onnxlint_q.judge.config.config import Config
from onnxlint_q.judge.config.files import find_config, read_config
from onnxlint_q.judge.config.reader import Reader
from onnxlint_q.judge.config.settle import for_model
from onnxlint_q.judge.config.words import FAILING_VERDICTS, SEVERITIES
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.select import ALL, Selection


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says of the configuration.

    Attributes:
        file: this file instead of the one that is found.
        search: whether to look for a file at all.
        select, extend_select, ignore: words; empty where the option was not given.
        scheme, target, fail_on, fail_on_verdict: words; None where the option was not given.
        baseline: file with what is known of models; None where the option was not given.
        anew: no baseline applies: one is to be written from all that is found.
        prefix: what stands before the name of an option in a message.
    """

    file: Path | None = None
    search: bool = True
    select: tuple[str, ...] = ()
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    scheme: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None
    fail_on: str | None = None
    fail_on_verdict: str | None = None
    baseline: Path | None = None
    anew: bool = False
    prefix: str = "--"

    def check(self, rules: Sequence[type[Rule]]) -> None:
        """Check the words for themselves, before any file is read.

        Raises:
            UsageError: one of them is none of its option; it is named with the option.
        """
        self._over(Config())
        chosen = Selection(self.select or (ALL,), self.extend_select, self.ignore)
        errors = list(chosen.errors(rules, self.prefix))
        if errors:
            raise UsageError("; ".join(errors))

    def config_for(self, model: Path, rules: Sequence[type[Rule]] = ()) -> Config:
        """The configuration that applies to `model`, checked against `rules` if there are any, with these words on top.

        Raises:
            UsageError: the file cannot be read or says something unknown, or one of the words is unknown.
        """
        if self.file is not None:
            found = read_config(self.file, rules)
        else:
            found = find_config(model, rules) if self.search else Config()
        return self._over(for_model(found, model))

    def _over(self, config: Config) -> Config:
        said = {
            "scheme": None if self.scheme is None else list(self.scheme),
            "target": None if self.target is None else list(self.target),
            "fail-on": self.fail_on,
            "fail-on-verdict": self.fail_on_verdict,
        }
        read = Reader({key: value for key, value in said.items() if value is not None}, self.prefix)
        chosen = config.selection
        # Who selects anew starts from nothing; who does not adds to what the file says.
        ignore = self.ignore if self.select else (*chosen.ignore, *self.ignore)
        extend = (*chosen.extend_select, *self.extend_select)
        over = replace(
            config,
            selection=Selection(self.select or chosen.select, extend, ignore),
            schemes=read.schemes(config.schemes),
            half=read.half(config.half),
            targets=read.targets(config.targets),
            fail_on=read.choice("fail-on", SEVERITIES, config.fail_on),
            fail_on_verdict=read.choice("fail-on-verdict", FAILING_VERDICTS, config.fail_on_verdict),
            baseline=None if self.anew else self.baseline or config.baseline,
        )
        if read.errors:
            raise UsageError("; ".join(read.errors))
        return over
