"""Files to the model: networks, properties, inputs and lists of instances."""
