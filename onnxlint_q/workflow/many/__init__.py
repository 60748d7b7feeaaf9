"""Many models at once, on this machine and on others."""
