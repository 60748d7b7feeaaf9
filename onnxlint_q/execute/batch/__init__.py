"""Whether samples may run together: what each operator does with the batch axis."""
