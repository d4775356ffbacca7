"""The mutation run: mutants made by mutmut's operators and a few of our own, each tested in a fork of one warm process."""
