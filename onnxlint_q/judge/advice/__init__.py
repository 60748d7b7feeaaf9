"""What rules advise and say alike; a plug-in has it through the public names of `onnxlint_q`."""
