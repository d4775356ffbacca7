"""What is verified, as frozen data: integer types, named requantisations, operations, networks, queries, results."""
