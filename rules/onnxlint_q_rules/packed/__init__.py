"""Rules about weights that lie in the file packed, as operators of ONNX Runtime alone read them."""
