"""Spiking networks of the kind "time to first spike": every neuron spikes exactly once, and what it says is when."""
