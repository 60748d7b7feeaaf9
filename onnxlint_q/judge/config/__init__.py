"""The configuration: what a file and the command line say, and which of them wins."""

from onnxlint_q.judge.config.config import Config
from onnxlint_q.judge.config.data import Data
from onnxlint_q.judge.config.files import find_config, parse_config, read_config
from onnxlint_q.judge.config.overrides import Overrides
from onnxlint_q.judge.config.settle import for_model
from onnxlint_q.judge.config.words import ALL_SCHEMES, FAILING_VERDICTS, SCHEME_NAMES, SEVERITIES

__all__ = [
    "ALL_SCHEMES",
    "FAILING_VERDICTS",
    "SCHEME_NAMES",
    "SEVERITIES",
    "Config",
    "Data",
    "Overrides",
    "find_config",
    "for_model",
    "parse_config",
    "read_config",
]
