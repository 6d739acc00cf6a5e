"""The entry point of every measurement: ``python -m bench.measure module:function '{"count": 1000}'``.

The function is called in this fresh process; what it returns is printed as one JSON line. It returns a dictionary with
``value`` (seconds for one operation, or the row's own figure) and perhaps ``note`` (a few words for the table).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any


def report(function: Callable[..., dict[str, Any]], arguments: str) -> int:
    """Calls `function` with the JSON `arguments` and prints its result, or its error, as one JSON line."""
    try:
        result = function(**json.loads(arguments))
    except Exception as error:
        lines = str(error).splitlines() or [""]
        result = {"error": f"{type(error).__name__}: {lines[0]}"}
    print(json.dumps(result), flush=True)
    return 1 if "error" in result else 0


def main() -> int:
    module, _, name = sys.argv[1].partition(":")
    return report(getattr(importlib.import_module(module), name), sys.argv[2])


if __name__ == "__main__":
    sys.exit(main())
