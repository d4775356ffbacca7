"""Search for a witness: projected gradient with a straight-through estimator, and integer local search. Untrusted."""
