"""One goroutine on every worker."""

import goproc
from goproc import go

handles = [go.on(proc)(goproc.proc) for proc in goproc.workers()]
print("hello from", *[handle.result() for handle in handles])
