"""The trusted kernel: certificates checked in exact integers. NumPy only; of bvverify it imports ``model`` and ``run`` and nothing else."""
