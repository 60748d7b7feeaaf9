"""`python -m onnxlint_q`."""

from onnxlint_q.cli import main

if __name__ == "__main__":
    main()
