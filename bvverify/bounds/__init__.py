"""Model to ranges: exact integer intervals, and linear bounds through staircase envelopes."""
