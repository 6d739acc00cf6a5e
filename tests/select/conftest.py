"""Placements for the tests of select: in one process, across two, spread over four."""

from __future__ import annotations

from places import place_fixture

place = place_fixture(((1, "local"), (2, "across"), (4, "spread")))
