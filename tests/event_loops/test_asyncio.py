"""asyncio in goroutines: each has a running loop of its own, or none, wherever it is placed."""

from __future__ import annotations

import signal

import pytest
from programs import Run, Start, ok

PLACES = ["go.local", "go.on(0)", "go.on(1)"]


@pytest.mark.parametrize("start_it", PLACES)
@pytest.mark.parametrize("main", ["plain", "a coroutine"])
def test_several_at_once_in_one_process(run: Run, start_it: str, main: str) -> None:
    script = f"""
        import asyncio
        from goproc import chan, go, yield_now
        async def talk(there, back, i):
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            for k in range(3):
                there.send((i, k))  # blocks this goroutine, in the middle of a task
                assert asyncio.get_running_loop() is loop and asyncio.current_task() is task
                await asyncio.sleep(0)
                yield_now()
                assert asyncio._get_running_loop() is loop and asyncio.get_event_loop() is loop
            assert back.recv() == "go on"
            return i
        async def several(there, back, i):
            task = asyncio.create_task(asyncio.sleep(0.001, 7))
            both = await asyncio.gather(talk(there, back, i), asyncio.to_thread(pow, 2, 3))
            return *both, await task
        def job(*args): return asyncio.run(several(*args))
        def work():
            there, back = chan(), chan()
            gs = [{start_it}(job, there, back, i) for i in range(5)]
            seen = sorted(there.recv(timeout=10) for _ in range(15))
            assert seen == [(i, k) for i in range(5) for k in range(3)], seen
            for _ in gs: back.send("go on")
            return [g.result(timeout=10) for g in gs]
        async def work_in_a_loop():
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            found = work()
            assert asyncio.get_running_loop() is loop and asyncio.current_task() is task
            await asyncio.sleep(0.001)
            return found
        print(asyncio.run(work_in_a_loop()) if {main!r} != "plain" else work())
        assert asyncio._get_running_loop() is None
    """
    expected = str([(i, 8, 7) for i in range(5)]) + "\n"
    assert ok(run(script)) == expected
    assert ok(run(script, procs=1, how="python")) == expected


@pytest.mark.parametrize("start_it", PLACES)
def test_settings_of_asyncio_for_a_thread_belong_to_a_goroutine(run: Run, start_it: str) -> None:
    """Asynchronous generators are known to their own loop, and the loop that was set is there after others have run."""
    script = f"""
        import asyncio, sys
        from goproc import chan, go
        async def numbers(ch):
            try:
                for i in range(3):
                    ch.send(i)
                    yield i
            finally:
                await asyncio.sleep(0)
                ch.send("closed in " + str(asyncio.get_running_loop() is loop))
        async def half(ch):
            global loop
            loop = asyncio.get_running_loop()
            generator = numbers(ch)
            async for i in generator:
                if i == 1: break
            assert generator in loop._asyncgens, "another loop has it"
            return generator
        def old_style(ch):
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            async def talk():
                for i in range(3): ch.send(i)
            loop.run_until_complete(talk())
            assert asyncio.get_event_loop() is loop
            loop.close()
            asyncio.set_event_loop(None)
            return tuple(sys.get_asyncgen_hooks())
        def new_style(ch):
            asyncio.run(half(ch))
            return tuple(sys.get_asyncgen_hooks())
        ch = chan()
        gs = [{start_it}(f, ch) for f in (old_style, new_style, old_style)]
        received = [ch.recv(timeout=10) for _ in range(9)]
        print(sorted(map(str, received)), [[*map(str, g.result(timeout=10))] for g in gs])
    """
    expected = f"{['0', '0', '0', '1', '1', '1', '2', '2', 'closed in True']} {[['None', 'None']] * 3}\n"
    assert ok(run(script)) == expected


@pytest.mark.parametrize(
    "where", ["imported first", "imported by the goroutine", "imported after the first go"]
)
def test_whenever_asyncio_is_imported(run: Run, where: str) -> None:
    script = f"""
        {"import asyncio" if where == "imported first" else "import json"}
        from goproc import chan, go
        def job(ch, i):
            import asyncio
            async def talk():
                ch.send(i)
                await asyncio.sleep(0)
                return asyncio.current_task() is not None
            return asyncio.run(talk())
        if {where!r} == "imported after the first go":
            go.on(1)(int).result()
            import asyncio
        for place in (go.local, go.on(1)):
            ch = chan()
            gs = [place(job, ch, i) for i in range(3)]
            print(sorted(ch.recv(timeout=10) for _ in gs), [g.result(timeout=10) for g in gs])
    """
    for how in ("goproc", "python"):
        assert ok(run(script, how=how)) == "[0, 1, 2] [True, True, True]\n" * 2


def test_a_goroutine_of_a_coroutine_finds_no_loop(run: Run) -> None:
    script = """
        import asyncio
        from goproc import go
        def look(): return asyncio._get_running_loop() is None
        def fail():
            async def wrong(): raise ValueError("in a coroutine")
            asyncio.run(wrong())
        async def main():
            found = [place(look).result() for place in (go.local, go.on(0), go.on(1))]
            for place in (go.local, go.on(0), go.on(1)):
                try: place(fail).result()
                except ValueError as error: found.append(str(error))
            assert asyncio.get_running_loop().is_running()
            return found
        print(asyncio.run(main()))
    """
    assert ok(run(script)) == f"{[True] * 3 + ['in a coroutine'] * 3}\n"


RUNS = {
    "a goroutine": "asyncio.run(wait(go.on(1)(chan().recv)))",
    "a channel": "asyncio.run(wait(chan()))",
    "asyncio": "asyncio.run(wait(None))",
    "a goroutine's loop": "go.local(asyncio.run, wait(None)).result()",
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("what", RUNS)
def test_ctrl_c_in_a_coroutine(start: Start, what: str, before: bool) -> None:
    """Also if the runtime starts within it: then asyncio has a handler for SIGINT already."""
    script = f"""
        import asyncio
        from goproc import chan, go, sleep
        async def wait(what):
            try:
                go.on(1)(sleep, 60)
                print("ready", flush=True)
                if what is None: await asyncio.sleep(60)
                elif hasattr(what, "result"): what.result()
                else: what.recv()
            finally:
                print("finally")
        {"go.on(1)(int).result()" if before else "pass"}
        {RUNS[what]}
    """
    with start(script) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait(5.0)
    # The other goroutines are gone with main, as always.
    assert done.status == 130 and done.out == ("ready\n" if "loop" in what else "ready\nfinally\n"), done


def test_ctrl_c_after_a_runtime_that_began_in_a_coroutine(start: Start) -> None:
    script = """
        import asyncio, signal, time
        from goproc import go, runtime
        async def main():
            with runtime(procs=1): return go(int).result()
        assert asyncio.run(main()) == 0
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
        time.sleep(60)
    """
    with start(script, procs=None, how="python") as program:
        program.wait_for("True")
        program.interrupt()
        done = program.wait(5.0)
    assert done.status == -signal.SIGINT and done.err.endswith("KeyboardInterrupt\n"), done


@pytest.mark.parametrize("start_it", PLACES)
def test_others_run_while_a_loop_waits(run: Run, start_it: str) -> None:
    """Loops that wait for timers, for one another over sockets, and for goroutines that have not begun."""
    script = f"""
        import asyncio, time
        from goproc import chan, go
        async def serve(ready, n):
            done = asyncio.Event()
            async def answer(reader, writer):
                writer.write((await reader.readline()).upper())
                await writer.drain()
                writer.close()
                nonlocal n
                n -= 1
                if n == 0: done.set()
            async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
                for _ in range(n): ready.send(server.sockets[0].getsockname()[1])
                await done.wait()
            return "served"
        async def ask(port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello\\n")
            answer = await reader.readline()
            writer.close()
            return answer.decode().strip()
        def client(ready): return asyncio.run(ask(ready.recv()))
        def server(ready): return asyncio.run(serve(ready, 3))
        async def poll(ch):
            while not (found := ch.try_recv())[1]: await asyncio.sleep(0.001)
            return found[0]
        async def spin(ch):
            while not (found := ch.try_recv())[1]: await asyncio.sleep(0)
            return found[0]
        ready = chan(3)
        gs = [{start_it}(server, ready)] + [{start_it}(client, ready) for _ in range(3)]
        print([g.result(timeout=10) for g in gs])
        a, b = chan(2), chan(2)
        gs = [{start_it}(asyncio.run, poll(a)) for _ in range({start_it!r} == "go.local")]
        gs += [{start_it}(lambda f, ch: asyncio.run(f(ch)), f, ch) for f, ch in ((spin, b), (poll, a))]
        gs += [{start_it}(lambda ch: (ch.send(7), ch.send(8)) and None, ch) for ch in (b, a)]
        print(len([g.result(timeout=10) for g in gs]) >= 4)
    """
    assert ok(run(script, procs=1)) == "['served', 'HELLO', 'HELLO', 'HELLO']\nTrue\n"


@pytest.mark.parametrize("start_it", PLACES)
def test_a_goroutine_that_waits_in_a_loop_can_be_cancelled(run: Run, start_it: str) -> None:
    script = f"""
        import asyncio
        from goproc import Cancelled, chan, go
        async def wait(ch, seconds):
            try:
                ch.send("waits")
                await asyncio.Event().wait() if seconds is None else await asyncio.sleep(seconds)
            finally: ch.send("finally")
        def job(*args): asyncio.run(wait(*args))
        for seconds in (None, 60):
            ch = chan(2)
            g = {start_it}(job, ch, seconds)
            print(ch.recv(), g.cancel(), end=" ")
            try: g.result(timeout=10)
            except Cancelled: print(ch.recv())
    """
    assert ok(run(script)) == "waits True finally\n" * 2
