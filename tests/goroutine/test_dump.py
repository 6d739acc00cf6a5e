"""dump(), num_goroutine() and SIGQUIT: their text, and that they come whatever goes on."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peek import until, until_waiting
from programs import Run, start
from reports import entries, headers

import goproc
from goproc import _dump, _frames, chan, current, dump, go, num_goroutine, yield_now
from goproc._sched import scheduler
from goproc.shm import _core


@pytest.fixture
def blocked(runtime2: Any) -> Iterator[Callable[..., Any]]:
    """``blocked(proc, name, labels)``: a goroutine that waits on a channel; it ends with the test."""
    gate = [chan()]
    begun: list[Any] = []

    def wait(ch: Any) -> None:
        def inner() -> None:
            ch.recv_ok()

        inner()

    def make(proc: int, **options: Any) -> Any:
        begun.append(go.on(proc).opts(**options)(wait, gate[0]))
        until_waiting(gate[0], receivers=len(begun))
        return begun[-1]

    make.gate = lambda: gate[0]  # type: ignore[attr-defined]
    yield make
    gate.pop().close()
    while begun:
        begun.pop().join(20)


# -- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proc", [0, 1])
def test_a_goroutine_that_waits(blocked: Any, proc: int) -> None:
    g = blocked(proc, name="waiter", labels={"job": "a b", "id": 7})
    entry = entries(dump())[g.id]
    assert (entry.state, entry.labels) == ("chan receive", '{id: 7, job: "a b"}')
    pid = _core.pids()[proc]
    assert entry.about == f"  waiter, proc {proc} (pid {pid}), waits on {blocked.gate()!r}"
    assert entry.functions == ["wait", "inner"]  # the newest call last
    assert re.fullmatch(rf'  File "{re.escape(__file__)}", line \d+, in inner', entry.lines[2])
    assert entry.lines[3] == "    ch.recv_ok()"
    first, place = entry.created
    assert first == "created by blocked.<locals>.make in goroutine 1"
    assert re.fullmatch(rf"\t{re.escape(__file__)}:\d+", place)


@pytest.mark.parametrize("computes", [False, True])
def test_stacks_are_left_out_after_a_time_with_cpu(blocked: Any, computes: bool) -> None:
    """A process that gets no CPU shows all of its goroutines, however long that takes."""

    class Loader:
        def get_source(self, name: str) -> str:
            time.sleep(_dump._STACK_SECONDS)  # the dump asks for the source: the process had no CPU meanwhile
            end = time.process_time() + 2 * _dump._STACK_CPU_SECONDS
            while computes and time.process_time() < end:
                pass
            return ""

    names = {"__name__": "elsewhere", "__loader__": Loader()}
    exec(compile("def waits(gate): gate.recv_ok()", f"elsewhere{computes}.py", "exec"), names)
    gate = chan()
    slow = go.local(names["waits"], gate)
    until_waiting(gate, receivers=1)
    other = blocked(0)
    found = entries(dump())
    gate.close()
    slow.join()
    assert found[slow.id].functions == ["waits"]
    assert found[other.id].functions == ([] if computes else ["wait", "inner"])
    assert ("  ...its stack is left out: there are too many" in found[other.id].lines) == computes


def test_main_comes_first_and_runs(runtime2: Any) -> None:
    text = dump()
    assert text.startswith(f"goroutine 1 [running]:\n  main, proc 0 (pid {os.getpid()})\n")
    entry = entries(text)[1]
    assert entry.functions[-1] == "test_main_comes_first_and_runs" and entry.lines[-1] == "    text = dump()"
    assert entry.created == [] and _frames.PACKAGE not in text


def test_the_caller_comes_first(blocked: Any) -> None:
    a = blocked(0)
    g = go.on(1)(lambda: (goproc.current().id, goproc.dump()))
    id_, text = g.result(20)
    assert text.startswith(f"goroutine {id_} [running]:\n") and list(entries(text)) == [id_, 1, a.id]
    assert entries(text)[1].state in ("goroutine join", "running")  # it may not have come so far


def test_states(runtime2: Any) -> None:
    stop, started = goproc.Atomic(0), chan(8)

    def runs() -> None:
        started.send("runs")
        while not stop.load():
            sum(range(1000))

    def sleeps() -> None:
        started.send("sleeps")
        goproc.sleep(100)

    def waits(wg: Any) -> None:
        started.send("waits")
        wg.wait()

    def local() -> None:
        pass

    wg = goproc.WaitGroup()
    wg.add(1)
    sleeper, waiter = go.on(1)(sleeps), go.on(1)(waits, wg)
    until_waiting(wg, receivers=1)
    assert {started.recv(20), started.recv(20)} == {"sleeps", "waits"}
    runner = go.on(1)(runs)
    started.recv(20)
    queued = go.on(1).opts(name="queued", labels={"q": "x"})(lambda: None)
    ready = go.local(local)
    try:
        found = entries(dump())
        assert found[runner.id].state in ("running", "runnable") and found[runner.id].functions == ["runs"]
        assert (found[sleeper.id].state, found[waiter.id].state) == ("sleep", "sync.WaitGroup.Wait")
        assert (found[ready.id].state, found[ready.id].functions) == ("runnable", [])
        if queued.id in found and queued.state == "queued":
            entry = found[queued.id]
            assert (entry.state, entry.labels, entry.functions) == ("runnable", "{q: x}", [])
            assert entry.created[0].endswith("test_states in goroutine 1")
    finally:
        stop.store(1)
        wg.done()
        sleeper.cancel()
    for g in (runner, queued, ready, waiter):
        g.join(20)
    assert isinstance(sleeper.exception(20), goproc.Cancelled)


def test_minutes(blocked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    g = blocked(0)
    since = scheduler.started[g._ref].since
    for ago, state in (
        (59, "chan receive"),
        (61, "chan receive, 1 minutes"),
        (3601, "chan receive, 60 minutes"),
    ):
        monkeypatch.setattr(_dump, "monotonic", lambda ago=ago: since + ago)
        assert entries(dump())[g.id].state == state


def test_to_a_file(runtime2: Any) -> None:
    file = io.StringIO()
    assert dump(file) is None
    assert file.getvalue().startswith("goroutine 1 [running]:\n") and file.getvalue().endswith("\n")
    assert go.on(1)(dump, None).result(20).endswith("\n")


def test_without_a_runtime() -> None:
    text = dump()
    assert (
        text.startswith("goroutine 1 [running]:\n")
        and "in test_without_a_runtime\n    text = dump()\n" in text
    )
    assert num_goroutine() == headers(text) == 1 and not _core.attached()


@pytest.mark.parametrize("proc", [0, 1])
def test_a_deep_stack_is_shortened(runtime2: Any, proc: int) -> None:
    gate = chan()

    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        else:
            gate.recv_ok()

    g = go.on(proc)(deep, 300)
    until_waiting(gate, receivers=1)
    entry = entries(dump())[g.id]
    gate.close()
    g.join(20)
    assert entry.functions == ["deep"] * 100 and "  ...201 frames left out..." in entry.lines


@pytest.mark.parametrize("what", ["raises", "lines", "long", "not text"])
def test_one_odd_goroutine_spoils_nothing(blocked: Any, what: str) -> None:
    class Odd:
        def __repr__(self) -> str:
            if what == "raises":
                raise KeyError("odd")
            return {"lines": "a\ngoroutine 77 [x]:\nb", "long": "x" * 10_000, "not text": 5}[what]  # type: ignore[return-value]

    g, other = blocked(0), blocked(1)
    waiting = scheduler.started[g._ref]
    kept = waiting.waits_on
    waiting.waits_on = Odd()
    try:
        found = entries(dump())
    finally:
        waiting.waits_on = kept
    about = found[g.id].about
    assert found[other.id].functions == ["wait", "inner"] and set(found) == {1, g.id, other.id}
    assert len(about) < 500 and (what != "raises" or "Odd (its repr raised KeyError)" in about)


def test_a_goroutine_that_cannot_be_described_is_said_to_be_so(blocked: Any) -> None:
    g = blocked(0)
    waiting = scheduler.started[g._ref]
    kept, waiting.since = waiting.since, "bad"  # type: ignore[assignment]
    try:
        text = dump()
    finally:
        waiting.since = kept
    assert f"goroutine {g.id} [unknown]:\n  it cannot be shown: TypeError\n" in text and headers(text) == 2


def test_current_is_shown_with_its_labels_in_its_own_dump(runtime2: Any) -> None:
    def f() -> Any:
        return goproc.current().id, goproc.dump()

    id_, text = go.opts(labels={"me": "yes"}).on(1)(f).result(20)
    assert text.startswith(f"goroutine {id_} [running] {{me: yes}}:\n") and current().id == 1


def test_an_import_of_goprocs_own_is_not_shown() -> None:
    """A process may be asked for its stacks while it imports what answers."""

    def calling(inner: Any, file: str) -> Any:
        scope: dict[str, Any] = {"inner": inner}
        exec(compile("def outer(): return inner()", file, "exec"), scope)
        return scope["outer"]

    imports = calling(lambda: _dump._stack(sys._getframe(1), {}), "<frozen importlib._bootstrap>")
    answers = calling(imports, scheduler.__file__)
    of_the_program, of_ours = imports(), answers()
    assert "outer" in of_the_program
    assert "outer" not in of_ours and "test_an_import_of_goprocs_own_is_not_shown" in of_ours


# -- who asks, and what the others do ----------------------------------------------------------------------------------


def test_D05_num_goroutine(blocked: Any) -> None:
    until(lambda: num_goroutine() == 1)  # those of an earlier test count until their process has cleaned up
    assert headers(dump()) == 1
    for i in range(20):
        blocked(i % 2)
    assert num_goroutine() == 21 == headers(dump())
    assert go.on(1)(lambda: goproc.num_goroutine()).result(20) == 22


def test_D05_while_they_come_and_go(runtime2: Any) -> None:
    def spawn(n: int) -> None:
        for _ in range(n):
            goproc.go(lambda: goproc.sleep(0.001))

    spawners = [go.on(i % 2)(spawn, 200) for i in range(4)]
    while any(g.state in ("queued", "running") for g in spawners):
        entries(dump())
        yield_now()
    until(lambda: num_goroutine() == 1 and headers(dump()) == 1)


def test_from_a_thread(blocked: Any) -> None:
    g, h = blocked(0), blocked(1)
    texts: list[str] = []

    def ask() -> None:
        for _ in range(5):
            texts.append(dump())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: not any(thread.is_alive() for thread in threads))
    assert len(texts) == 15
    for text in texts:
        found = entries(text)
        assert set(found) == {1, g.id, h.id}
        assert found[g.id].functions == found[h.id].functions == ["wait", "inner"]
        assert "test_from_a_thread" in found[1].functions


def test_from_everywhere_at_once(blocked: Any) -> None:
    g = blocked(1)
    askers = [go.on(i % 2)(lambda: [goproc.dump() for _ in range(5)]) for i in range(6)]
    texts = [dump() for _ in range(5)]
    for asker in askers:
        texts += asker.result(60)
    for text in texts:
        assert entries(text)[g.id].functions == ["wait", "inner"] and 1 in entries(text)
        assert "did not answer" not in text


def test_in_a_signals_handler_while_one_is_collected(blocked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    g = blocked(1)
    nested: list[str] = []
    ask = _dump._ask

    def interrupted(proc: int) -> None:
        ask(proc)
        if not nested:
            nested.append("")
            nested[0] = dump()

    monkeypatch.setattr(_dump, "_ask", interrupted)
    text = dump()
    assert nested and set(entries(text)) == set(entries(nested[0])) == {1, g.id}, (text, nested)
    assert "did not answer" not in text + nested[0]


def test_no_signal_of_the_program_is_touched(runtime2: Any) -> None:
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    dump()
    assert before == [signal.getsignal(number) for number in signal.valid_signals()]


def test_a_process_that_computes_in_python_answers(runtime2: Any) -> None:
    started, stop = chan(1), goproc.Atomic(0)

    def burn() -> None:
        started.send(1)
        while not stop.load():
            for _ in range(100):
                pass

    g = go.on(1)(burn)
    started.recv(20)
    for _ in range(20):
        entry = entries(dump())[g.id]
        assert entry.state == "running" and entry.functions == ["burn"]
    stop.store(1)
    g.join(20)


def test_one_that_waits_in_a_system_call_answers(runtime2: Any) -> None:
    pids = chan(1)

    def blocks() -> bytes:
        import os

        end, other = os.pipe()
        pids.send((os.getpid(), other))
        data = os.read(end, 1)
        os.close(end)
        os.close(other)
        return data

    g = go.on(1)(blocks)
    pid, end = pids.recv(20)
    try:
        until(lambda: "    data = os.read(end, 1)" in entries(dump())[g.id].lines)
        entry = entries(dump())[g.id]
        assert entry.state == "running" and entry.functions == ["blocks"]
    finally:
        with open(f"/proc/{pid}/fd/{end}", "wb") as file:
            file.write(b"x")
    assert g.result(20) == b"x"


STUCK = """
    import os, signal, sys, time
    import goproc
    from goproc import go, chan, sleep
    ready = chan(4)
    def waits(): ready.send(1); chan().recv()
    def stuck(n):
        ready.send(1)
        sum(range(n))  # C code that looks at no signals
    go.on(1).opts(name="first", labels={"job": "x"})(waits)
    go.on(2)(waits)
    ready.recv(); ready.recv()
    while goproc.dump().count("[chan receive]") < 2: sleep(0.01)
    go.on(1)(stuck, 10**9 if sys.argv[1] == "computes" else 0)
    ready.recv()
    pid = goproc.shm._core.pids()[1]
    def ticks():
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[11])
    if sys.argv[1] == "computes":
        before = ticks()
        while ticks() < before + 10: time.sleep(0.01)  # by then the process is in the middle of the computation
    else:
        os.kill(pid, signal.SIGSTOP)
    text = goproc.dump()
    print(text)
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.mark.parametrize(("why", "state"), [("stopped", "it is stopped"), ("computes", "it computes")])
def test_a_process_that_does_not_answer(run: Run, why: str, state: str) -> None:
    done = run(STUCK, why, procs=3)
    assert done.status == 0, done
    assert re.search(rf"^proc 1 \(pid \d+\) did not answer within 1 s: {state}", done.out, re.M), done.out
    assert re.search(
        r"^goroutine \d+ \[no answer\] \{job: x\}:\n  first, proc 1 \(pid \d+\)\ncreated by main",
        done.out,
        re.M,
    )
    assert re.search(r"^goroutine \d+ \[chan receive\]:\n  waits, proc 2", done.out, re.M)
    assert "stuck, proc 1" in done.out or why == "stopped"


def test_the_host_does_not_answer(run: Run) -> None:
    script = """
        import goproc, time
        from goproc import go, chan
        texts = chan(1)
        def ask(): texts.send(goproc.dump())
        go.on(1)(ask)
        sum(range(3 * 10**8))
        print(texts.recv())
    """
    done = run(script, env={"GOPROC_PREEMPT": "0"})
    assert done.status == 0 and (
        re.search(r"^goroutine 1 \[no answer\]:\n  main, proc 0 \(pid \d+\)\n", done.out, re.M)
        or "1 [running]" in done.out
    ), done


@pytest.mark.parametrize("preempt", ["0", "1"])
def test_a_worker_asks_while_main_computes_or_waits(run: Run, preempt: str) -> None:
    script = """
        import goproc, sys
        from goproc import go, chan
        def ask():
            while "\\ngoroutine 1 [goroutine join]" not in (text := "\\n" + goproc.dump()): pass  # main is about to wait
            return text
        print(go.on(1)(ask).result())
        g = go.on(1)(goproc.dump)
        if sys.argv[1] == "1":
            while g.state != "done": pass
            print(g.result())
    """
    done = run(script, preempt, env={"GOPROC_PREEMPT": preempt})
    assert done.status == 0 and "did not answer" not in done.out, done
    assert len(re.findall(r"^goroutine 1 \[goroutine join\]:", done.out, re.M)) == 1
    assert len(re.findall(r"^goroutine 1 \[running\]:", done.out, re.M)) == int(preempt)


def test_a_runtime_in_a_thread(run: Run) -> None:
    """Goroutines run in a thread of goproc's own: goroutine 1 stands for the program's main thread."""
    script = """
        import threading, goproc
        from goproc import go, chan
        def use():
            go.on(0)(lambda: chan().recv())
            print(go.on(0)(lambda: goproc.dump()).result())
        t = threading.Thread(target=use)
        t.start()
        t.join()
        print(goproc.dump())
    """
    done = run(script)
    first, second = done.out.split("\n\n\n") if "\n\n\n" in done.out else (done.out, done.out)
    assert done.status == 0 and "did not answer" not in done.out, done
    assert "goroutine 1 [running]:\n" in first and "t.join()" in first
    assert "goroutine 1 [running]:\n" in second and "print(goproc.dump())" in second
    assert "go.on(0)(lambda: chan().recv())" in second


def test_in_a_forked_child_it_is_refused(runtime2: Any) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            dump()
        except RuntimeError as error:
            status = 0 if "os.fork()" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_many_goroutines(runtime2: Any) -> None:
    gate = chan()
    handles = [go.on(i % 2)(lambda: gate.recv_ok()) for i in range(2000)]
    until_waiting(gate, receivers=2000)
    text = dump()
    gate.close()
    for g in handles:
        g.join(20)
    assert headers(text) == 2001 and text.count("[chan receive]") == 2000


# -- SIGQUIT -----------------------------------------------------------------------------------------------------------

BUSY = """
    import goproc, sys, time
    from goproc import go, chan, sleep
    ready = chan(4)
    def waits():
        ready.send(1)
        chan().recv()
    def burn():
        ready.send(1)
        while True: pass
    go.opts(labels={"job": "x"}).on(1)(waits)
    go.on(0)(waits)
    go.on(2)(burn)
    for _ in range(3): ready.recv()
    print("ready", end="", flush=True)
    print(" unfinished", end="")
    MAIN
"""


@pytest.mark.parametrize(
    "main", ["sleep(60)", "time.sleep(60)", "chan().recv()", "burn()", "while True: print('x' * 70)"]
)
@pytest.mark.parametrize("group", [False, True])
def test_M06_sigquit(tmp_path: Path, main: str, group: bool) -> None:
    with start(tmp_path, BUSY.replace("MAIN", main), procs=3) as program:
        program.wait_for("ready")
        time.sleep(0.05)  # nothing to wait on: from the line to the call after it
        if group:  # a terminal's ^\
            os.killpg(program.pid, signal.SIGQUIT)
        else:
            program.kill(number=signal.SIGQUIT)
        done = program.wait()
    assert done.status == 2 and done.out.startswith("ready unfinished"), done
    assert done.err.startswith("SIGQUIT: quit\n\ngoroutine 1 ["), done.err
    assert "did not answer" not in done.err and headers(done.err) == 4
    found = entries(done.err)
    states = {e.state for e in found.values()}
    assert {"chan receive", "running"} <= states
    assert [e.labels for e in found.values() if "proc 1" in e.about] == ["{job: x}"]
    assert [e.functions for e in found.values() if "proc 2" in e.about] == [["burn"]]
    assert all(e.created[0] == "created by main in goroutine 1" for e in found.values() if e.id != 1)


def test_sigquit_of_a_worker_alone_does_nothing(tmp_path: Path) -> None:
    main = "sys.stdin.readline(); print('end')"
    with start(tmp_path, BUSY.replace("MAIN", main), procs=3, stdin=subprocess.PIPE) as program:
        program.wait_for("ready")
        for proc in (1, 2):
            for _ in range(3):
                program.kill(program.worker(proc), signal.SIGQUIT)
        program.kill(program.zygote(), signal.SIGQUIT)
        program.type("\n")
        done = program.wait()
    assert (done.status, done.out, done.err) == (0, "ready unfinishedend\n", "")


def test_sigquit_is_the_programs_if_it_wants_it(run: Run) -> None:
    script = """
        import os, signal, goproc
        handler = eval(HANDLER)
        signal.signal(signal.SIGQUIT, handler)
        with goproc.runtime(procs=2):
            assert signal.getsignal(signal.SIGQUIT) is handler
            os.kill(os.getpid(), signal.SIGQUIT)
            print(goproc.go.on(1)(goproc.dump).result().count("goroutine "))
        assert signal.getsignal(signal.SIGQUIT) is handler
        print("end")
    """
    for handler, out in (("lambda *a: print('theirs')", "theirs\n"), ("signal.SIG_IGN", "")):
        done = run(script.replace("HANDLER", repr(handler)), how="python", procs=None)
        assert (
            done.status == 0 and done.out.startswith(out) and done.out.endswith("end\n") and done.err == ""
        ), done


def test_sigquit_is_given_back(run: Run) -> None:
    script = """
        import os, signal, warnings, goproc
        warnings.simplefilter("ignore")  # from 3.12 on, of a fork beside other threads: the runtime's own take no locks
        with goproc.runtime(procs=2):
            assert callable(signal.getsignal(signal.SIGQUIT))
        assert signal.getsignal(signal.SIGQUIT) is signal.SIG_DFL
        goproc.chan()
        child = os.fork()
        if child == 0: os.kill(os.getpid(), signal.SIGQUIT)
        print(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == signal.SIGQUIT)
        def fork():
            import os, signal, warnings
            warnings.simplefilter("ignore")
            child = os.fork()
            if child == 0: os.kill(os.getpid(), signal.SIGQUIT)
            return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == signal.SIGQUIT
        print(goproc.go.on(1)(fork).result())
    """
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "True\nTrue\n", "")


def test_sigquit_while_it_starts(tmp_path: Path) -> None:
    """Whatever comes of it, it ends the program, and leaves nothing."""
    script = 'print("begun", flush=True)\nimport goproc\ngoproc.go.on(1)(int).result()\ngoproc.sleep(60)'
    for delay in (0.0, 0.02, 0.05, 0.1):
        with start(tmp_path, script, how="python") as program:
            program.wait_for("begun")
            time.sleep(delay)  # the moment of the signal: any will do
            os.killpg(program.pid, signal.SIGQUIT)
            done = program.wait()
        assert done.status in (2, -signal.SIGQUIT), done
