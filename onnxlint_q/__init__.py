"""onnxlint-q: will this ONNX model survive INT8, where does it break, why, and what to do.

The public names stand in `__init__.pyi`, beside this file; each is imported when it is first used, so that
`import onnxlint_q` costs nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
