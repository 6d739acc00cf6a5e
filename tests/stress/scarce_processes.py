"""Scenarios: no further process or thread is to be had."""

from __future__ import annotations

from scenarios import DEATH, ZYGOTE, Scenario

PROCESSES = """
    def none_left(call="fork"): open(os.path.join(os.environ["SCARCE"], call), "w").close()
    def some_left(call="fork"): os.unlink(os.path.join(os.environ["SCARCE"], call))
"""

SCENARIOS = [
    Scenario(
        "a user who may have one process",
        """
    import resource
    with goproc.runtime(procs=1): started()  # imports all: the other user may not read the files
    if os.getuid() == 0: os.setresuid(65534, 65534, 65534)  # a limit does not bind root
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    try: chan()
    except OSError as error: print(error)
    """,
        out=r"\[Errno 11\] goproc cannot start: [^\n]*: RLIMIT_NPROC \(ulimit -u\) is 1, [^\n]*--procs[^\n]*\n",
        how="python",
    ),
    Scenario(
        "no process for the workers",
        """
    none_left()
    try: go.on(2)(int).result(20)
    except goproc.GoprocError as error: print(error)
    """,
        out=r"proc \d of 2 could not be started: fork: Resource temporarily unavailable; use fewer [^\n]*\n",
        shim=True,
    ),
    Scenario(
        "no process for the workers, and nobody expects that",
        """
    none_left()
    go.on(2)(int).result(20)
    """,
        err=r"panic: proc .*GoprocError: proc \d of 2 could not be started: fork: [^\n]*\n",
        status=2,
        shim=True,
    ),
    Scenario(
        "no process for a replacement",
        """
    started()
    none_left()
    kill(1)
    go.on(1)(int).result(20)
    """,
        err=DEATH + r"panic: proc .*GoprocError: proc 1 of 2 could not be started: fork: [^\n]*\n",
        status=2,
        shim=True,
    ),
    Scenario(
        "no process for a replacement, for a moment",
        """
    started()
    none_left()
    kill(1)
    g = go.on(1)(int)
    sleep(0.3)  # nothing to wait on: the first attempts have failed by then
    some_left()
    g.result(20)
    everything_works()
    """,
        err=DEATH,
        shim=True,
    ),
    Scenario(
        "no process for a recycled worker, for a moment",
        """
    started()
    none_left()
    g = go.local(goproc.recycle, 1)
    sleep(0.3)  # nothing to wait on: the first attempts have failed by then
    some_left()
    g.result(20)
    everything_works()
    """,
        shim=True,
    ),
    Scenario(
        "no process for one that was killed at its time limit, for a moment",
        """
    def work():
        while True: pass
    started()
    none_left()
    g = go.opts(timeout=0.05, grace=0.05)(work)
    print(outcome(g.result, 20))
    sleep(0.3)  # nothing to wait on: the first attempts have failed by then
    some_left()
    everything_works()
    """,
        out="TaskTimeout\n",
        err=DEATH,
        shim=True,
    ),
    Scenario(
        "a goroutine forks and there is no process",
        """
    started()
    none_left()
    print(outcome(go.on(1)(os.fork).result, 20))
    some_left()
    everything_works()
    """,
        out="EAGAIN\n",
        shim=True,
    ),
    Scenario(
        "no thread for the coroner",
        """
    none_left("pthread_create")
    try: chan()
    except (OSError, RuntimeError) as error: print(type(error).__name__, error)
    some_left("pthread_create")
    everything_works()
    """,
        out=r"BlockingIOError \[Errno 11\] goproc cannot start: [^\n]*\n",
        how="python",
        shim=True,
    ),
    Scenario(
        "no thread in a worker",
        """
    def work():
        none_left("pthread_create")
        try: return outcome(goproc.blocking, abs, -5)
        finally: some_left("pthread_create")
    started()
    print(go.on(1)(work).result(20))
    everything_works()
    """,
        out="RuntimeError\n",
        shim=True,
    ),
    Scenario(
        "no thread for the monitor of a replacement",
        """
    started()
    none_left("pthread_create")
    kill(1)
    go.on(1)(int).result(20)
    some_left("pthread_create")
    everything_works()
    """,
        err=DEATH,
        shim=True,
    ),
    Scenario(
        "no memory file at the start",
        """
    none_left("memfd_create")
    print(outcome(chan))
    some_left("memfd_create")
    everything_works()
    """,
        out="ENFILE\n",
        how="python",
        shim=True,
    ),
    Scenario(
        "the zygote dies and there is no memory file",
        """
    started()
    none_left("memfd_create")
    os.kill(go.on(1)(os.getppid).result(20), signal.SIGKILL)
    kill(1)
    go.on(1)(int).result(20)
    """,
        err=ZYGOTE
        + rf"({DEATH})?goproc: no zygote takes its place: goproc cannot start: .*Too many[^\n]*\n({DEATH})?fatal error: [^\n]*\n",
        status=2,
        shim=True,
    ),
]
SCENARIOS = [s._replace(text=PROCESSES + s.text) if s.shim else s for s in SCENARIOS]
