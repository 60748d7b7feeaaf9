"""How signal and noise travel through a network, worked out from the file alone.

A tensor is represented by a population of samples (`population`), pushed once through every operator by its transfer
rule (`elementwise`, `layers`, `pooling`, `structure`, listed in `rules`); one adjoint sweep (`sweep`) brings back what
an error in any tensor costs at the model's output. `noise` and `ranges` say how large the errors of a scheme are.
"""
