"""The configuration as a JSON schema, for editors: made from what the settings are read with, and from the rules.

It is stricter than the reader in one thing: codes and names of rules have to be written as they are listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from onnxlint_q.analysis.targets import TARGETS
from onnxlint_q.execute.data.preprocess import MOST_PIXELS
from onnxlint_q.judge.config.data import CHOICES
from onnxlint_q.judge.config.reader import ENTRY
from onnxlint_q.judge.config.words import ALL_SCHEMES, FAILING_VERDICTS, MODEL_KEYS, SCHEME_NAMES, SEVERITIES
from onnxlint_q.judge.rule import Rule
from onnxlint_q.judge.verdict import VerdictLevels

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TYPES: Mapping[type, str] = {float: "number", int: "integer", bool: "boolean", str: "string"}
_NUMBERS = {"oneOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}
_SIDE = {"type": "integer", "minimum": 1, "maximum": MOST_PIXELS}
_PIXELS = {"oneOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 1, "maxItems": 2}]}
_TEXT = {"type": "string", "minLength": 1}


def schema_text(rules: Sequence[type[Rule]]) -> str:
    """The schema as a file."""
    return json.dumps(schema(rules), indent=1) + "\n"


def schema(rules: Sequence[type[Rule]]) -> dict[str, Any]:
    """The schema of a configuration file, with the options of these rules."""
    known = _settings()
    one_model = {key: known[key] for key in MODEL_KEYS}
    names = [(rule, name) for rule in rules for name in (rule.code, rule.name)]
    severities = {"enum": [word for word, severity in SEVERITIES.items() if severity is not None]}
    return {
        "$schema": DRAFT,
        "title": "onnxlint-q.toml",
        **_table({**known, "models": {"type": "object", "additionalProperties": _table(one_model)}}),
        "$defs": {
            "severity": _table({name: severities for _, name in names}),
            "rules": _table({name: _reference(rule.code) for rule, name in names}),
            **{rule.code: _options(rule) for rule in rules},
        },
    }


def _settings() -> dict[str, Any]:
    words = {"type": "array", "items": {"type": "string"}}
    return {
        "select": {**words, "description": "Rules to run instead of all: codes, first letters of codes, or names."},
        "extend-select": {**words, "description": "Rules to run, too."},
        "ignore": {**words, "description": "Rules not to run."},
        "scheme": {**_list_of([*SCHEME_NAMES, ALL_SCHEMES]), "description": "Schemes to judge."},
        "target": {**_list_of(TARGETS), "description": "What the file has to run on."},
        "fail-on": {"enum": list(SEVERITIES), "description": "Lowest severity that fails a build."},
        "fail-on-verdict": {"enum": list(FAILING_VERDICTS), "description": "Best verdict that fails a build."},
        "confirm-below-db": {"type": "number", "description": "A claim under this SQNR is confirmed."},
        "verdict": _table({f.name.replace("_", "-"): _level(f.name) for f in fields(VerdictLevels)}),
        "severity": _reference("severity"),
        "rules": _reference("rules"),
        "data": _table(_data()),
        "baseline": {**_TEXT, "description": "File with what is known, from the folder of this file."},
        "suppress": {"type": "array", "items": _entry()},
        "suppress-in-model": {"type": "boolean", "description": "Whether a model may suppress findings on itself."},
        "rule-pages": {
            "type": "string",
            "pattern": r"^https?://\S*\{code\}\S*$",
            "description": "Address of the page of a rule, with {code} and {name}.",
        },
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _level(name: str) -> dict[str, Any]:
    return {"type": "number", **({"minimum": 0, "maximum": 1} if name.endswith("agreement") else {})}


def _data() -> dict[str, Any]:
    return {
        "calibrate": {**_TEXT, "description": "Samples for `--calibrate config`: a path, or random."},
        "labels": {**_TEXT, "description": "File with their classes."},
        **{key: {"enum": list(words)} for key, words in CHOICES.items()},
        "mean": _NUMBERS,
        "std": _NUMBERS,
        "scale": {"type": "number"},
        "resize": _PIXELS,
        "crop": _PIXELS,
    }


def _entry() -> dict[str, Any]:
    code = {"oneOf": [_TEXT, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    reason = {"type": "string", "pattern": r"\S"}
    known = {"code": code, "reason": reason, "node": {"type": "string"}, "model": {"type": "string"}}
    return {**_table({key: known[key] for key in ENTRY}), "required": ["code", "reason"]}


def _options(rule: type[Rule]) -> dict[str, Any]:
    return _table(
        {
            name.replace("_", "-"): {"type": _TYPES[type(default)], "default": default, "description": meaning}
            for name, default, meaning, _ in rule.options()
        }
    )


def _list_of(words: Iterable[str]) -> dict[str, Any]:
    return {"type": "array", "items": {"enum": list(words)}, "minItems": 1}


def _table(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}
