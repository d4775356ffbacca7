"""``bvverify demo``: a tour in a few seconds."""

from __future__ import annotations

NAME = "demo"


def command() -> int:
    """See it work on bundled digit networks.

    Decides a handful of properties; shows one property that holds and one that does not, with the adversarial
    image drawn beside the clean one, and the commands that ask the same.

    Example: bvverify demo

    Exit codes: 0 done, 6 internal error.
    """
    from bvverify.cli import tour

    return tour.run()
