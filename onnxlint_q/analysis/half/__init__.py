"""What float16 cannot hold: which tensors, where it matters, and which nodes to keep in float32."""
