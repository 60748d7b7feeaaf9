"""`python -m onnxlint_q`."""

from onnxlint_q.cli.app import main

if __name__ == "__main__":
    main()
