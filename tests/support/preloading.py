"""Modules made by the tests of imports ahead, and scripts that import them.

Each module records who executed it, and may wait for a file to appear (a gate) where it is not the script that imports it.
"""

from __future__ import annotations

import textwrap

# The names that modules made here may use.
TOOLS = """
import os, sys, time

FOLDER = os.environ["TEST_FOLDER"]
IN_ZYGOTE = "-c" in sys.orig_argv  # or in a worker, which is forked from it

def path(name):
    return os.path.join(FOLDER, name)

def log(name):
    with open(path("log"), "a") as file:
        file.write(f"{name}:{os.getpid()} ")

def logged(name=""):
    try:
        with open(path("log")) as file:
            return [int(word.partition(":")[2]) for word in file.read().split() if word.startswith(name + ":")]
    except FileNotFoundError:
        return []

def open_gate(name):
    open(path(name), "w").close()

def until(condition):
    while not condition():
        time.sleep(0.002)

def gate(name):
    # Not a wait of the script's own: only what imports ahead is held up.
    if IN_ZYGOTE:
        log("at-" + name)
        until(lambda: os.path.exists(path(name)))
"""

# At the top level of a module, the wait itself must be there, and not in a function.
GATE = """
if t.IN_ZYGOTE:
    t.log("at-{0}")
    while not os.path.exists(t.path("{0}")):
        time.sleep(0.002)
"""

HEAD = """
import os, sys, time
import tools_of_test as t
"""

HALF = {
    "heavy_package": "from heavy import before\n" + GATE.format("gate") + "from heavy import after",
    "heavy__before": "pid = os.getpid()",
    "heavy__after": "pid = os.getpid()",
}

SCRIPT = """
import os, subprocess, sys, time
import tools_of_test as t
{imports}
from goproc import go

def worker():
    return os.getpid(), os.getppid()

{body}
"""


def script(imports: str, body: str) -> str:
    return SCRIPT.format(imports=imports, body=textwrap.dedent(body))
