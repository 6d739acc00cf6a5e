"""scikit-learn under joblib with goproc's backend. Run as a script: its first import lets the workers share the others."""

from __future__ import annotations

import sys

import goproc.joblib  # noqa: F401 (before scikit-learn, as the documentation says and a sorter of imports does)
from bench.measure import report
from bench.peers.learning import main

if __name__ == "__main__":
    sys.exit(report(main, sys.argv[1]))
