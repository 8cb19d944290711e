"""The parts of a decoder's layer: each holds its weights and is called with the step's tensors."""
