"""What float16 cannot hold."""
