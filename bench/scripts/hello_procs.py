"""One goroutine on every process."""

import goproc
from goproc import go

handles = [go.on(proc)(goproc.proc) for proc in range(goproc.procs())]
print("hello from", *[handle.result() for handle in handles])
