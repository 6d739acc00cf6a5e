"""Every case of Go's that was listed is a test here, or stands in the table of README.md with a reason; never both."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent

# Numbers that are missing were never given.
CASES = """
    A01 A02 A03 A04 A05 A06 A07 A08 A09 A10 A11 A12 A13 A14 A15 A16 A17 A18 A19 A20 A21 A22 A23 A24
    B03 B05 B06 B11 B12 B13 B15 B16 B18 B20 B21 B22 B23 B24 B25 B26
    C01 C02 C03 C04 C06 C07 C08 C09 C10
    D01 D02 D03 D04 D05 D06
    E01 E02 E03 E04 E05 E06 E07 E08 E09 E10 E11 E12 E13 E14 E15 E16 E17 E18 E19 E20 E21 E22 E23 E24
    F01 F02 F03 F04 F05 F06 F07 F08 F09
    G01 G02 G03 G04 G06 G07 G08 G09 G10 G11 G12 G13 G14 G15 G16
    H01 H03 H04 H06 H07
    I01 I02 I03 I04 I05 I06 I07 I08 I09 I10 I11
    J01 J02 J03 J04 J05 J06 J07 J08 J09 J11 J12 J13 J14 J16 J18 J19 J20 J21 J22
    K01 K02 K03 K04 K06 K07 K09 K10 K11 K12 K13 K14
    L01 L02 L03 L04 L05 L06 L07 L09 L10
    M01 M02 M03 M04 M05 M06 M07 M08 M09
    N01 N02 N03 N04 N05 N06
    O01 O02 O03 O04 O05 O06 O07 O08 O09 O10 O11 O12 O13 O14 O15
    P01 P02 P03 P04 P05 P06 P07 P08 P09
    Q01 Q02 Q03
    R01 R02 R03
"""


def named():
    """The cases that tests are named by: one or several, as in test_A05_A06_fifo."""
    found = set()
    for file in HERE.glob("test_*.py"):
        for ids in re.findall(r"^def test_((?:[A-R]\d\d_)+)", file.read_text(), re.M):
            found |= set(ids.strip("_").split("_"))
    return found


def excused():
    """The cases of the table, each with its reason."""
    found = []
    for ids, reason in re.findall(
        r"^\| ([A-R]\d\d(?:-[A-R]\d\d)?) \|.*\| (.+) \|$", (HERE / "README.md").read_text(), re.M
    ):
        first, _, last = ids.partition("-")
        for number in range(int(first[1:]), int((last or first)[1:]) + 1):
            found.append((f"{first[0]}{number:02}", reason))
    return found


def test_every_case_is_a_test_or_has_a_reason():
    cases = CASES.split()
    reasons = dict(excused())
    assert len(cases) == len(set(cases)) == 204
    assert [case for case, n in Counter(case for case, _ in excused()).items() if n > 1] == []
    assert sorted(reasons.keys() - set(cases)) == []
    assert sorted(set(cases) - named() - reasons.keys()) == []
    assert sorted(named() & reasons.keys()) == []
    assert all(len(reason) > 20 for reason in reasons.values())
