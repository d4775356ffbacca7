"""The names of the ILP readings; a module of its own, so that ``--help`` need not import the rest."""

from enum import StrEnum


class Reading(StrEnum):
    """Which ILP: ``bvverify.ilp.exact``, ``.aaai24``, ``.qvip``."""

    EXACT = "exact"
    AAAI24 = "aaai24"
    QVIP = "qvip"
