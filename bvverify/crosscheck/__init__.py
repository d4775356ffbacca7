"""What others claim of a network, held against what is decided here: replayed witnesses, checked certificates."""
