"""Without any of its rules the protocol goes wrong, and the model sees it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model.cases import CONFIGURATIONS
from model.rules import RULES

SOURCES = [file.read_text() for file in sorted(Path(__file__).parent.glob("*.py")) if file.stem != "rules"]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_needed(rule: str) -> None:
    result = CONFIGURATIONS[RULES[rule]].explore(frozenset({rule}))
    assert result.violation


def test_each_rule_of_the_model_is_listed() -> None:
    named = {rule for text in SOURCES for rule in re.findall(r'keeps\(\s*"([^"]+)"', text)}
    assert named == {rule for rule in RULES if not rule.startswith("the journal has")}
