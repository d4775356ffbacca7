"""The version of bvverify: a file of its own, so that whatever states it imports nothing else."""

__version__ = "0.1.0"
