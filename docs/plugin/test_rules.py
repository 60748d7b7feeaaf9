from onnxlint_q_npu.leaves_accelerator import LeavesAccelerator

from onnxlint_q import check_examples


def test_examples() -> None:
    check_examples(LeavesAccelerator())
