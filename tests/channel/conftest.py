"""Channel tests run in every placement, and for the classes of capacity that differ."""

from __future__ import annotations

from places import cap_fixture, place_fixture

place = place_fixture(((0, "local"), (1, "on0"), (1, "across"), (2, "across"), (1, "back"), (4, "spread")))
cap = cap_fixture("cap", 0, 1, 64)  # rendezvous, always full or empty, roomy
# For cases where only unbuffered, nearly always full and roomy differ.
some_cap = cap_fixture("some_cap", 0, 1, 7)
