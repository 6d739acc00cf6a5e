"""Placements for the tests of synchronisation: in one process, across two, and spread over five."""

from __future__ import annotations

from places import FOUR_PLACES, place_fixture

place = place_fixture(FOUR_PLACES)
