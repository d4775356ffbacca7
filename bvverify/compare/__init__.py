"""Translation validation: can two readings of one model ever differ? ``compare`` is the way in, ``layer`` asks about one layer alone."""
