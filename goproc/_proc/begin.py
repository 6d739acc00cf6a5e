"""The beginning of the runtime, at its first use: the zygote boots while this process imports the rest.

``from goproc import go`` imports this file, so that a program that has no descriptor left gets the right error.
"""

from __future__ import annotations

import _thread

from goproc._isolation import Uncollected, isolated
from goproc._proc import limits
from goproc._proc.sigint_early import held

# Threads that use goproc for the first time at once begin one runtime. Reentrant, since a finder of the program's, which
# is called for each import, may use goproc.
_lock = _thread.RLock()
_begun = False


def begin() -> None:
    """Start the zygote, and load the modules of the runtime. The core calls this.

    Raises:
        OSError: a module cannot be read. The text names the limit that is too low, if one is.
    """
    global _begun
    with held(), _lock, isolated, Uncollected():
        if _begun:
            return
        try:
            from goproc._proc import early

            early.launch_now()
            from goproc import _wiring as _wiring
        except OSError as error:
            raise limits.named(error) from None
        _begun = True
