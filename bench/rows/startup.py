"""How long a script takes that does nothing, when the first result is there, and how long the import takes."""

from __future__ import annotations

from bench.model import Peer, Row, seconds_at_most, seconds_more

_COMMANDS = "bench.peers.commands"
_PLAIN = "python hello.py"
_NAMES = "from goproc import chan, go"
_ON_EACH = "goproc, a goroutine on each"
_PLAIN_GOPROC = "goproc, plain python"


def _imported(name: str, statement: str) -> Peer:
    module = statement.split()[1].partition(".")[0]
    return Peer(
        name, f"{_COMMANDS}:imported", arguments={"statement": statement, "repeats": 3}, requires=(module,)
    )


def _first(script: str, *modules: str) -> tuple[Peer, ...]:
    arguments = {"script": script, "procs": 2, "repeats": 3}
    requires = ("goproc", *modules)
    return (
        Peer("goproc", f"{_COMMANDS}:printed", arguments=arguments, requires=requires),
        Peer(
            _PLAIN_GOPROC, f"{_COMMANDS}:printed", arguments={**arguments, "plain": True}, requires=requires
        ),
    )


ROWS = (
    Row(
        name="startup",
        title="goproc run hello.py --procs 8, from start to exit",
        peers=(
            Peer(
                "goproc",
                f"{_COMMANDS}:goproc_run",
                arguments={"script": "hello.py", "procs": 8, "repeats": 3},
                requires=("goproc",),
            ),
            Peer(
                _ON_EACH,
                f"{_COMMANDS}:goproc_run",
                arguments={"script": "hello_procs.py", "procs": 8, "repeats": 3},
                requires=("goproc",),
            ),
            Peer(_PLAIN, f"{_COMMANDS}:python", arguments={"script": "hello.py", "repeats": 3}),
            Peer(
                "Pool(8), fork, a task on each",
                f"{_COMMANDS}:python",
                arguments={"script": "hello_pool.py", "repeats": 3},
            ),
            Peer(
                "Executor(8), spawn, 8 tasks",
                f"{_COMMANDS}:python",
                arguments={"script": "hello_executor.py", "repeats": 2},
            ),
        ),
        targets=(seconds_more(_PLAIN, 0.2), seconds_more(_PLAIN, 0.2, subject=_ON_EACH)),
    ),
    Row(
        name="first result",
        title="the first result of another process, after the start of the program",
        peers=_first("first_result.py"),
    ),
    Row(
        name="first pandas",
        title="the first result computed with pandas by another process, after the script has imported it",
        peers=_first("first_pandas.py", "pandas"),
        targets=(seconds_at_most(0.3),),
    ),
    Row(
        name="import",
        title="import in a fresh interpreter",
        peers=(
            _imported("goproc", "import goproc"),
            _imported(_NAMES, "from goproc import chan, go"),
            _imported("multiprocessing.pool", "import multiprocessing.pool"),
            _imported("concurrent.futures", "import concurrent.futures.process"),
            _imported("faster-fifo", "import faster_fifo"),
            _imported("joblib", "import joblib"),
            _imported("mpire", "import mpire"),
        ),
        targets=(seconds_at_most(0.04), seconds_at_most(0.04, subject=_NAMES)),
    ),
)
