"""Scenarios: too little address space or shared memory, or no room on the disk for what is printed."""

from __future__ import annotations

from textwrap import dedent, indent

from scenarios import DEATH, Scenario

ADDRESSES = [
    Scenario(
        "little address space at the start",
        """
    with little_address_space(100 << 20):
        try: chan()
        except OSError as error: print(error)
    everything_works()
    """,
        out=r"[^\n]*address space[^\n]*RLIMIT_AS \(ulimit -v\)[^\n]*--procs[^\n]*\n",
        how="python",
    ),
    Scenario(
        "a worker eats its address space",
        """
    def work(ch):
        with little_address_space(8 << 20):
            ch.send(b"x" * 200_000)
            bytearray(64 << 20)
    started()
    ch = chan(1)
    print(outcome(go.on(1)(work, ch).result, 20), len(ch.recv()))
    everything_works()
    """,
        out="MemoryError 200000\n",
    ),
    Scenario(
        "a worker receives more than its address space holds",
        """
    def work(ch, again):
        with little_address_space(8 << 20):
            failed = outcome(ch.recv)
        return failed, len(again.recv())
    started()
    ch, again = chan(1), chan(1)
    ch.send(["x" * 1000] * 4 + [bytes(40 << 20)])
    again.send(bytes(40 << 20))
    print(go.on(1)(work, ch, again).result(20))
    everything_works()
    """,
        out=r"\('(MemoryError|nothing)', 41943040\)\n",
    ),
    Scenario(
        "main receives more than its address space holds",
        """
    def work(): return [bytes([n % 256]) * 9000 for n in range(5000)]
    started()
    g = go.on(1)(work)
    g.join(20)
    with little_address_space(4 << 20): print(outcome(g.result, 20))
    print(len(g.result(20)))
    everything_works()
    """,
        out="MemoryError\n5000\n",
    ),
    Scenario(
        "main sends and has no address space",
        """
    started()
    value = [bytes([n % 256]) * 9000 for n in range(5000)]
    ch = chan(1)
    with little_address_space(4 << 20): print(outcome(ch.send, value))
    print(len(ch))
    ch.send(value)
    assert ch.recv() == value
    everything_works()
    """,
        out="MemoryError\n0\n",
    ),
    Scenario(
        "no address space for the stacks of goroutines",
        """
    def waits(ch): return ch.recv()
    started()
    ch = chan()
    held = []
    with little_address_space(8 << 20), suppress(MemoryError):  # main, too, may find no memory
        while len(held) < 3000:
            held.append(go.local(waits, ch))
            if len(held) % 100 == 0: sleep(0)
    ch.close()
    print({outcome(g.result, 20) for g in held} <= {"ChanClosed", "MemoryError"})
    everything_works()
    """,
        out="True\n",
    ),
    Scenario(
        "goroutines wait until there is no address space for another stack",
        """
    def waits(ch): return ch.recv()
    def part():
        ch = chan()
        held = [go.local(waits, ch) for _ in range(6000)]
        with little_address_space(1 << 20): sleep(0.001)
        ch.close()
        return {outcome(g.result, 20) for g in held}
    started()
    for proc in (0, 1): print(go.on(proc)(part).result(20) <= {"ChanClosed", "MemoryError"})
    everything_works()
    """,
        out="True\nTrue\n",
    ),
    Scenario(
        "goroutines eat the address space, wait, and end",
        """
    def eats(ch, n):
        held = [bytearray(1000 * (n % 50)) for _ in range(n % 20)]
        goproc.yield_now()
        held += [[object() for _ in range(1000)] for _ in range(n % 7)]
        ch.recv(timeout=0.01)
        held += [str(n) * 1000 for _ in range(n % 11)]
        sleep(0.001)
        return n
    def part():
        ch = chan()
        held = [go.local(eats, ch, n) for n in range(400)]
        with little_address_space(1 << 19):
            with suppress(MemoryError): sleep(0.1)
        return {outcome(g.result, 20) for g in held}
    started()
    for proc in (0, 1): print(go.on(proc)(part).result(20) <= {"TimeoutError", "MemoryError"})
    everything_works()
    """,
        out="True\nTrue\n",
    ),
    Scenario(
        "a goroutine goes deeper and there is no address space for its frames",
        """
    import resource
    def descends(n): return descends(n + 1) if n < 900 else n
    def part():
        chunks = [go.local(descends, 0) for _ in range(40)]
        with little_address_space(0):
            with suppress(MemoryError): sleep(0.001)
        return {outcome(g.result, 20) for g in chunks}
    started()
    print(go.on(1)(part).result(20) <= {"nothing", "MemoryError"})
    everything_works()
    """,
        out="True\n",
    ),
    Scenario(
        "a worker is replaced in little address space",
        """
    import resource
    started()
    zygote = go.on(1)(os.getppid).result(20)
    with open(f"/proc/{zygote}/statm") as file: size = int(file.read().split()[0]) * resource.getpagesize()
    resource.prlimit(zygote, resource.RLIMIT_AS, (size + (1 << 20),) * 2)
    kill(1)
    go.on(1)(int).result(20)
    """,
        err=rf"{DEATH}(.*?cannot map goproc's shared memory: ){{5}}.*?fatal error: .*It is the 5th time[^\n]*\n",
        status=2,
    ),
    Scenario(
        "a small limit on files at the start",
        """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, resource.RLIM_INFINITY))
    try: chan()
    except OSError as error: print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    everything_works()
    """,
        out=r"[^\n]*a file[^\n]*RLIMIT_FSIZE \(ulimit -f\)[^\n]*--procs[^\n]*\n",
        how="python",
    ),
    Scenario(
        "a small limit on files later",
        """
    import resource
    def lower(): resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    started()
    for proc in (0, 1, 2): go.on(proc)(lower).result(20)
    everything_works()
    """,
    ),
    Scenario(
        "memory that is too small for one value",
        """
    started()
    ch = chan(1)
    try: ch.send(b"x" * (40 << 20))
    except OutOfSharedMemory as error: print(error)
    everything_works()
    """,
        out=r"[^\n]*41[^\n]*16777216[^\n]*--memory[^\n]*\n",
        options=("--memory", "16M"),
    ),
]


def _full(name: str, text: str, out: str = "", err: str = "", before: str = "", after: str = "") -> Scenario:
    """Return a scenario in which `text` runs while shared memory is full. When it is not any more, everything works."""
    script = f"{dedent(before)}started()\neverything_works()\nwith full_memory():\n{indent(dedent(text).strip(), '    ')}\n"
    return Scenario(
        f"full: {name}", f"{script}{dedent(after)}everything_works()\n", out, err, options=("--memory", "16M")
    )


LONG = 'long = "x" * 100_000\n'
WAITS = "ch = chan()\ng = go.on(1)(ch.recv)\n"
LOG = "import logging\nlogging.basicConfig(stream=sys.stdout, format='%(message)s')\n"
NO = "OutOfSharedMemory"

FULL = [
    _full(
        "go",
        "print(outcome(go, len, long), outcome(go.on(1), len, long), go(abs, -5).result(20))",
        f"{NO} {NO} 5\n",
        before=LONG,
    ),
    _full("a result", "print(outcome(go.on(1)(lambda: 'x' * 100_000).result, 20))", f"{NO}\n"),
    _full(
        "send and recv",
        "print(outcome(ch.send, long), len(ch), ch.recv(), outcome(ch.try_send, long))",
        f"{NO} 1 1 {NO}\n",
        before=f"{LONG}ch = chan(3)\nch.send(1)\n",
    ),
    _full(
        "select",
        "print(outcome(select, (ch.send, long), other), select((ch.send, 7), other).index, ch.recv())",
        f"{NO} 0 7\n",
        before=f"{LONG}ch, other = chan(1), chan(1)\n",
    ),
    _full(
        "close",
        "ch.close()\nprint(outcome(g.result, 20), outcome(ch.send, 1))",
        "ChanClosed ChanClosed\n",
        before=WAITS,
    ),
    _full("cancel", "g.cancel()\nprint(outcome(g.result, 20))", "Cancelled\n", before=WAITS),
    _full(
        "locks",
        "mutex.unlock()\nrw.unlock()\nsemaphore.release()\nprint([g.result(20) for g in waiting])",
        r"\[None, None, None\]\n",
        before="""
        mutex, rw, semaphore = Mutex(), goproc.RWMutex(), goproc.Semaphore(1)
        mutex.lock(), rw.lock(), semaphore.acquire()
        waiting = [go.on(1)(mutex.lock), go.on(2)(rw.rlock), go.on(1)(semaphore.acquire)]
        """,
    ),
    _full(
        "WaitGroup",
        "print(outcome(group.go, len, long))\ngroup.done()\ngroup.wait(20)",
        f"{NO}\n",
        before=f"{LONG}group = goproc.WaitGroup()\ngroup.add(1)\n",
    ),
    _full(
        "Group",
        """
        def members():
            with goproc.Group() as group: group.go(len, long)
        print(outcome(members))
        """,
        f"{NO}\n",
        before=LONG,
    ),
    _full(
        "pmap",
        "print(outcome(list, goproc.pmap(abs, range(100))))",
        f"{NO}\n",
        after="print(sum(goproc.pmap(abs, range(100))))\n",
    )._replace(out=f"{NO}\n4950\n"),
    _full(
        "a pmap that runs",
        "print(outcome(list, results))",
        f"{NO}\n",
        # What is read makes room for as much. The texts from 25 on fit nowhere, and none of them is there at first.
        before="""
        def text(n): return "x" * (60_000 if n < 25 else 3_000_000)
        results = goproc.pmap(text, range(2000), ahead=20)
        next(results)
        """,
    ),
    _full("flow", "print(outcome(list, goproc.flow([long] * 4).map(len)))", f"{NO}\n", before=LONG),
    _full(
        "a flow that runs",
        "print(outcome(list, results))",
        f"{NO}\n",
        before="""
        def text(n): return "x" * (60_000 if n < 250 else 3_000_000)    # 250 have no room at a time
        results = iter(goproc.flow(range(2000)).map(text))
        next(results)
        """,
    ),
    _full("share", "print(outcome(goproc.share, [long]))", f"{NO}\n", before=LONG),
    _full("shared_array", "print(outcome(goproc.shared_array, 1_000_000))", f"{NO}\n"),
    _full(
        "Executor.submit",
        "ch.close()\nprint(outcome(executor.submit, len, long), outcome(late.result, 20))",
        f"{NO} {NO}\n5\n",
        before="""
        from goproc.futures import Executor
        def waits(ch):
            ch.recv_ok()
            return "x" * 100_000
        long, executor, ch = "x" * 100_000, Executor(), chan()
        late = executor.submit(waits, ch)
        """,
        after="print(executor.submit(abs, -5).result(20))\nexecutor.shutdown()\n",
    ),
    _full(
        "a worker logs",
        "go.on(1)(loud).result(20)\nprint('goes on')",
        "goes on\nlater\n",
        r"goproc: proc 1 could not log 'x+ \(root\): a message needs \d+ bytes of shared memory; [^\n]*\n",
        before=f"{LOG}def loud(): logging.warning('x' * 200_000)\n",
        after="go.on(1)(logging.warning, 'later').result(20)\n",
    ),
    _full(
        "a worker prints",
        "go.on(1)(loud).result(20)",
        "x{200000}\n",
        before="def loud(): print('x' * 200_000)\n",
    ),
    _full(
        "a timer and a context",
        """
        goproc.after(0.001).recv(timeout=20)
        ctx, cancel = goproc.context.with_timeout(goproc.context.background(), 60)
        cancel()
        print(ctx.err())
        """,
        "context canceled\n",
        before="import goproc.context\n",
    ),
    _full(
        "a supervisor and a monitor",
        "print(outcome(goproc.Supervisor), outcome(goproc.monitor, g))",
        f"{NO} {NO}\n",
        before=WAITS,
        after="g.cancel()\ng.join()\n",
    ),
    _full(
        "a worker dies",
        "kill(1)\nprint(outcome(g.result, 20))\ngo.on(1)(int).result(20)",
        "WorkerDied\n",
        DEATH,
        before=WAITS,
    ),
    _full("a dump", "print('goroutine' in goproc.dump())", "True\n"),
    _full(
        "what is larger than all of it",
        "print(outcome(ch.send, long * 1000))",
        f"{NO}\n",
        before=f"{LONG}ch = chan(1)\n",
    ),
]

DISK = [
    Scenario(
        "no room: a death", "started(); kill(1); go.on(1)(int).result(20); everything_works()", full="err"
    ),
    Scenario("no room: a panic", "started(); go.on(1)(int, 'x'); chan().recv()", full="err", status=2),
    Scenario(
        "no room: a deadlock", "started(); g = go.on(1)(chan().recv); chan().recv()", full="err", status=2
    ),
    Scenario(
        "no room: a failure that nobody reads",
        "started(); g = go.on(1)(int, 'x'); g.join(); del g; everything_works()",
        full="err",
    ),
    Scenario(
        "no room: sys.exit in a goroutine",
        "started(); go.on(1)(sys.exit, 'words'); chan().recv()",
        full="err",
        status=1,
    ),
    Scenario(
        "no room: a goroutine prints",
        """
    started()
    print(outcome(go.on(1)(print, "x" * 100_000, flush=True).result, 20), file=sys.stderr)
    everything_works()
    """,
        err="ENOSPC\n",
        full="out",
    ),
    Scenario(
        "no room: a worker logs",
        """
    import logging
    logging.basicConfig(format="%(message)s")
    started()
    go.on(1)(logging.warning, "words").result(20)
    everything_works()
    print("done")
    """,
        out="done\n",
        full="err",
    ),
]
SCENARIOS = [*ADDRESSES, *FULL, *DISK]
