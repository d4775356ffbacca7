"""bvverify decides properties of int8 neural networks bit for bit.

The package is laid out as its pipeline is: ``load`` reads files into ``model``; ``run``, ``bounds`` and ``encode`` are three
separately written readings of a model (numbers, ranges, bit-vectors); ``attack``, ``solve`` and ``search`` decide; ``verify`` is the pipeline;
``cli`` is the command line. Importing ``bvverify`` imports nothing heavy.
"""

__version__ = "0.1.0"
