"""Why: the calculation of a neuron, step by step, and what a saved result means."""
