"""How signal and noise travel through a network, worked out from the file alone.

A tensor is represented by a population of samples (`population`), pushed once through every operator by its transfer
rule (`operators`, listed in `forward`); one adjoint sweep (`backward`) brings back what an error in any tensor costs at
the model's output. `network` holds both, `weights` and `rounding` say how large the errors of a scheme are, and
`expected` what level a measurement would have.
"""
