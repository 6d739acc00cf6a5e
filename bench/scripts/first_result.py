"""How long after its start a program has the first result of another process."""

import sys
import time

from goproc import go

go.on(1)(int).result()
print("hello after", time.monotonic() - float(sys.argv[1]))
