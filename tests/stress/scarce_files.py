"""Scenarios: no file descriptor is left."""

from __future__ import annotations

from scenarios import DEATH, ZYGOTE, Scenario

SCENARIOS = [
    Scenario(
        "few files at the start",
        """
    held = use_up_files()
    try: chan()
    except OSError as error: print(error)
    give_back_files(held)
    everything_works()
    """,
        out=r"\[Errno 24\] goproc cannot start: Too many open files: RLIMIT_NOFILE \(ulimit -n\) is 64; raise it, or [^\n]*\n",
        how="python",
    ),
    Scenario(
        "no file in main",
        """
    started()
    held = use_up_files()
    everything_works()
    print(outcome(open, os.devnull), go(abs, -5).result(20))
    """,
        out="EMFILE 5\n",
    ),
    Scenario(
        "no file in a worker",
        """
    def work(ch):
        held = use_up_files()
        array = ch.recv()
        everything_works()
        print("printed", flush=True)
        return outcome(open, os.devnull), len(array), go(abs, -5).result(20)
    started()
    ch = chan()
    g = go.on(1)(work, ch)
    ch.send(b"x" * 3_000_000)
    print(g.result(20))
    everything_works()
    """,
        out=r"printed\n\('EMFILE', 3000000, 5\)\n",
    ),
    Scenario(
        "a worker logs and has no file",
        """
    import logging
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    def work():
        held = use_up_files()
        logging.warning("logged")
    started()
    go.on(1)(work).result(20)
    """,
        out="logged\n",
    ),
    Scenario(
        "a worker starts a program and has no file",
        """
    import subprocess
    def work():
        held = use_up_files()
        subprocess.run(["true"])
    started()
    try: go.on(1)(work).result(20)
    except OSError as error: print(errno.errorcode[error.errno])
    go.on(1)(sleep, 0).result(20)
    """,
        out="EMFILE\n",
    ),
    Scenario(
        "a worker dies and main has no file",
        """
    started()
    held = use_up_files()
    before = go.on(1)(os.getpid).result(20)
    kill(1)
    assert go.on(1)(os.getpid).result(20) != before
    everything_works()
    """,
        err=DEATH,
    ),
    Scenario(
        "a worker crashes and has no file",
        """
    import ctypes
    def work():
        held = use_up_files()
        ctypes.string_at(0)
    started()
    try: go.on(1)(work).result(20)
    except WorkerDied as error: print(error.signal)
    everything_works()
    """,
        out="11\n",
        err=DEATH + r'(  File "[^\n]*\n)+',
    ),
    Scenario(
        "a worker is replaced and the zygote has no file",
        """
    import resource
    started()
    zygote = go.on(1)(os.getppid).result(20)
    count = len(os.listdir(f"/proc/{zygote}/fd"))
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (count, count))
    kill(1)
    print(go.on(1)(abs, -5).result(20))
    everything_works()
    """,
        out="5\n",
        err=DEATH,
    ),
    Scenario(
        "a worker is replaced and the host has no file in its coroner",
        """
    import resource
    started()
    before = go.on(1)(os.getpid).result(20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    kill(1)
    assert go.on(1)(os.getpid).result(20) != before
    everything_works()
    """,
        err=DEATH,
    ),
    Scenario(
        "a worker is recycled and has no file",
        """
    started()
    held = go.on(1)(use_up_files).result(20)
    goproc.recycle(1)
    give_back = go.on(1)(len, held).result(20)
    everything_works()
    """,
    ),
    Scenario(
        "the zygote dies and main has no file",
        """
    started()
    held = use_up_files()
    os.kill(go.on(1)(os.getppid).result(20), signal.SIGKILL)
    kill(1)
    go.on(1)(int).result(20)
    """,
        err=ZYGOTE
        + rf"({DEATH})?goproc: no zygote takes its place: goproc cannot start: .*RLIMIT_NOFILE[^\n]*\n({DEATH})?fatal error: [^\n]*\n",
        status=2,
    ),
    Scenario(
        "a runtime stops and main has no file",
        """
    with goproc.runtime(procs=2):
        started()
        held = use_up_files()
        waiting = go(chan().recv)
    with open("/proc/self/maps") if give_back_files(held) is None else None as maps:
        print(sum("memfd:goproc" in line for line in maps))
    held = use_up_files()
    print(outcome(goproc.runtime(procs=2).__enter__))
    give_back_files(held)
    with goproc.runtime(procs=2): everything_works()
    """,
        out="0\nEMFILE\n",
        how="python",
    ),
    Scenario(
        "a deadlock and no file anywhere",
        """
    def work():
        held.extend(use_up_files())
        chan().recv()
    held = []
    started()
    g = go.on(1)(work)
    held.extend(use_up_files())
    chan().recv()
    """,
        err=r"fatal error: all goroutines are asleep - deadlock!\n.*proc 1.*",
        status=2,
    ),
    Scenario(
        "a panic and no file anywhere",
        """
    def work():
        held = use_up_files()
        raise ValueError("expected")
    started()
    held = use_up_files()
    go.on(1)(work)
    chan().recv()
    """,
        err=r"panic: expected\n\ngoroutine .*ValueError: expected\n.*",
        status=2,
    ),
    Scenario(
        "a dump and no file anywhere",
        """
    def work():
        held.extend(use_up_files())
        begun.send(None)
        chan().recv()
    held, begun = [], chan()
    started()
    g = go.on(1)(work)
    begun.recv()
    held.extend(use_up_files())
    print("work" in goproc.dump())
    """,
        out="True\n",
    ),
    Scenario(
        "an executor and no file in main",
        """
    from goproc.futures import Executor
    started()
    with Executor() as executor:
        executor.submit(int).result(20)
        held = use_up_files()
        print(executor.submit(abs, -5).result(20), sum(executor.map(abs, range(100))))
    """,
        out="5 4950\n",
    ),
]
