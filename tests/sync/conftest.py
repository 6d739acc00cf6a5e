"""Placements for the tests of synchronisation: in one process, across the host and a worker, across two workers, spread over five processes."""

from __future__ import annotations

from places import place_fixture

place = place_fixture(((0, "local"), (1, "across"), (2, "across"), (4, "spread")))
