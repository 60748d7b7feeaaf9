"""How long the axes are that the file leaves open: what the graph demands of them, else what is usual."""
