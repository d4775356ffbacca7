"""What was computed and why the verdict is so, for people: the trace, the explanation, the page."""
