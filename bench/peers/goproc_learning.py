"""scikit-learn under joblib with goproc's backend. Run as a script: the first import starts the process of the workers."""

from __future__ import annotations

import sys

import sklearn.datasets
import sklearn.ensemble
import sklearn.linear_model
import sklearn.model_selection  # noqa: F401 (as the script of a user does, at its top)

import goproc.joblib  # noqa: F401 (it makes the backend known)
from bench.measure import report
from bench.peers.learning import main

if __name__ == "__main__":
    sys.exit(report(main, sys.argv[1]))
