"""What a program and a plug-in import from `onnxlint_q`."""

import subprocess
import sys

import onnxlint_q


def test_every_public_name_is_there() -> None:
    assert {"Rule", "Example", "option", "Finding", "Claim", "Severity", "Facts"} <= set(dir(onnxlint_q))
    for name in dir(onnxlint_q):
        assert getattr(onnxlint_q, name) is not None, name


def test_importing_the_package_imports_no_library_of_weight() -> None:
    heavy = "'onnx', 'onnxruntime', 'numpy', 'networkx', 'typer', 'rich', 'jinja2'"
    script = f"import sys, onnxlint_q; print([name for name in ({heavy}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
