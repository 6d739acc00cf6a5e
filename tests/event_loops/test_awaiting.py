"""await g, arecv(), asend(), async for, aselect(): in any loop, many at once, and no value is lost."""

from __future__ import annotations

import pytest
from programs import Run, ok

# A program runs `main()` in each of these.
WAYS = {
    "main": "asyncio.run(main())",
    "thread": "t = threading.Thread(target=lambda: asyncio.run(main())); t.start(); t.join()",
    "goroutine": "go.on(1)(lambda: asyncio.run(main())).result()",
    "local": "go.local(lambda: asyncio.run(main())).result()",
    "two goroutines": "[g.result() for g in [go.on(1)(lambda: asyncio.run(main())) for _ in range(2)]]",
}
BEGIN = """
    import asyncio, random, threading, time
    from goproc import ChanClosed, Cancelled, after, aselect, chan, context, go, nil, runtime, sleep, sync
    from goproc.shm import _core
    async def until_waiting(ch):
        while not any(_core.waiting(ch)): await asyncio.sleep(0.001)
"""


def program(main: str, way: str) -> str:
    return f"{BEGIN}    async def main():\n{main}\n    {WAYS[way]}\n"


@pytest.mark.parametrize("way", WAYS)
def test_everything_in_any_loop(run: Run, way: str) -> None:
    main = """
        assert await go(pow, 2, 5) == 32
        assert await go.local(pow, 2, 6) == 64
        try: await go(int, "x")
        except ValueError as exc: assert "invalid literal" in str(exc) and exc.__notes__
        else: raise AssertionError
        def produce(ch):
            for i in range(20): ch.send(i)
            ch.close()
        for make in (go, go.local):
            for cap in (0, 3):
                ch = chan(cap)
                make(produce, ch)
                assert [v async for v in ch] == list(range(20))
                try: await ch.arecv()
                except ChanClosed as exc: assert str(exc) == "receive from closed channel"
                else: raise AssertionError
                ch = chan(cap)
                g = make(list, ch)
                for i in range(20): await ch.asend({"i": i})
                ch.close()
                assert await g == [{"i": i} for i in range(20)]
                try: await ch.asend(1)
                except ChanClosed as exc: assert str(exc) == "send on closed channel"
                else: raise AssertionError
        a, b = chan(), chan()
        go(lambda: (sleep(0.01), b.send("b")))  # aselect() waits by then
        assert tuple(await aselect(a, nil, b)) == (2, "b", True)
        found = await aselect(a, after(0.01))
        assert found.index == 1 and type(found.value) is float
        g = go(b.recv)
        assert tuple(await aselect(a, (b.send, 5))) == (1, None, True) and await g == 5
        assert (await aselect(go(int), a)).index == 0
        ctx, cancel = context.with_timeout(context.background(), 0.01)
        assert tuple(await aselect(a, ctx)) == (1, None, False)
        for wait in (aselect(a, timeout=0.01), a.arecv(timeout=0.01), a.asend(1, timeout=0.01)):
            try: await wait
            except TimeoutError as exc: assert "timed out" in str(exc)
            else: raise AssertionError
        assert a.try_send(1) is False, "a receiver was left behind"
    """
    assert ok(run(program(main, way))) == ""


@pytest.mark.parametrize("way", ["main", "thread", "goroutine"])
def test_other_tasks_run_meanwhile(run: Run, way: str) -> None:
    main = """
        turns, last, gate = 0, None, chan()
        async def others():
            nonlocal turns
            while True:
                turns += 1
                if turns == last: gate.close()
                await asyncio.sleep(0)
        task = asyncio.create_task(others())
        ch = chan(1000)
        for i in range(1000): ch.send(i)
        for i in range(1000): await ch.arecv()
        assert turns >= 10, turns
        last = turns + 4
        await go(gate.recv_ok)  # it ends when the other task has had its turns
        task.cancel()
    """
    assert ok(run(program(main, way))) == ""


@pytest.mark.parametrize("way", ["main", "thread", "goroutine"])
def test_ten_thousand_at_once(run: Run, way: str) -> None:
    main = """
        chs = [chan() for _ in range(5000)]
        gs = [go(pow, i, 2) for i in range(5000)]
        tasks = [asyncio.create_task(ch.arecv()) for ch in chs]
        squares = asyncio.gather(*gs)
        await asyncio.sleep(0)
        def feed():
            for i, ch in enumerate(chs): ch.send(i)
        go(feed)
        assert await asyncio.gather(*tasks) == list(range(5000))
        assert await squares == [i * i for i in range(5000)]
        assert threading.active_count() < 8
    """
    assert ok(run(program(main, way))) == ""


@pytest.mark.parametrize("cap", [0, 5])
@pytest.mark.parametrize("how", ["cancel", "timeout", "wait_for"])
def test_cancellation_loses_no_value(run: Run, cap: int, how: str) -> None:
    """Values are sent while receivers are cancelled at any moment: each value is received once."""
    main = f"""
        ch, got = chan({cap}), []
        def send():
            for i in range(3000): ch.send(i)
            ch.close()
        async def receive():
            while True: got.append(await ch.arecv())
        async def with_timeout():
            while True:
                try:
                    async with asyncio.timeout(random.random() / 500): got.append(await ch.arecv())
                except TimeoutError: pass
        async def with_wait_for():
            while True:
                try: got.append(await asyncio.wait_for(ch.arecv(), random.random() / 500))
                except TimeoutError: pass
        g = go(send)
        try:
            while "{how}" == "cancel":
                task = asyncio.create_task(receive())
                await asyncio.sleep(random.random() / 500)
                task.cancel()
                try: await task
                except asyncio.CancelledError: pass
            await (with_timeout() if "{how}" == "timeout" else with_wait_for())
        except ChanClosed: pass
        await g
        assert got == list(range(3000)), (len(got), got[:10])
    """
    assert ok(run(program(main, "main"))) == ""


@pytest.mark.parametrize("cap", [0, 5])
def test_a_cancelled_send_has_sent_nothing(run: Run, cap: int) -> None:
    main = f"""
        ch, sent = chan({cap}), []
        g = go(list, ch)
        async def send():
            for i in range(10**9):
                await ch.asend(len(sent))
                sent.append(i)
        for _ in range(200):
            task = asyncio.create_task(send())
            await asyncio.sleep(random.random() / 1000)
            task.cancel()
            try: await task
            except asyncio.CancelledError: pass
        ch.close()
        assert await g == list(range(len(sent))), len(sent)
    """
    assert ok(run(program(main, "main"))) == ""


def test_a_task_that_receives_as_it_is_cancelled_ends_at_its_next_wait(run: Run) -> None:
    main = """
        ch = chan()
        got = []
        async def receive():
            got.append(await ch.arecv())
            await asyncio.sleep(20)
        task = asyncio.create_task(receive())
        await until_waiting(ch)
        ch.send("value")  # blocks the loop: the task has the value, and does not know
        task.cancel("why")
        try: await task
        except asyncio.CancelledError as exc: assert exc.args == ("why",)
        else: raise AssertionError
        assert got == ["value"] and task.cancelled()
        single = asyncio.create_task(ch.arecv())
        await until_waiting(ch)
        ch.send("another")
        single.cancel()
        assert await single == "another"
        # the group's tasks end
        async def loop():
            while True: await ch.arecv()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(loop())
                await until_waiting(ch)
                ch.send(1)
                raise ValueError("stop")
        except* ValueError: pass
    """
    assert ok(run(program(main, "main"))) == ""


def test_awaiting_a_goroutine_that_is_cancelled_and_being_cancelled(run: Run) -> None:
    main = """
        g = go(sleep, 20)
        task = asyncio.create_task(asyncio.wait_for(g, 0.02))
        try: await task
        except TimeoutError: pass
        assert g.state in ("queued", "running"), "the goroutine goes on"
        g.cancel()
        try: await g
        except Cancelled: pass
        else: raise AssertionError
    """
    assert ok(run(program(main, "main"))) == ""


def test_a_timer_that_is_set_anew(run: Run) -> None:
    main = """
        from goproc import Timer, Ticker
        timer = Timer(100)
        task = asyncio.create_task(aselect(timer))
        await until_waiting(timer.c)
        timer.reset(0.01)
        assert (await task).index == 0
        ticker = Ticker(0.005)
        for _ in range(3): await aselect(ticker)
        ticker.stop()
    """
    assert ok(run(program(main, "main"))) == ""


def test_the_runtime_stops_under_a_task(run: Run) -> None:
    script = (
        BEGIN
        + """
    from goproc import errors
    async def main():
        with runtime(procs=1):
            ch = chan()
            task = asyncio.create_task(ch.arecv())
            await until_waiting(ch)
        try: await task
        except errors.RuntimeStopped as exc: print("stopped")
        try: await ch.arecv()
        except errors.RuntimeStopped as exc: print("stopped before")
        with runtime(procs=1):
            print(await go(pow, 2, 3))
    asyncio.run(main())
    """
    )
    assert ok(run(script)) == "stopped\nstopped before\n8\n"


@pytest.mark.parametrize("first", ["uvloop", "goproc"])
@pytest.mark.parametrize("where", ["main()", "go.on(1)(main).result()", "go.local(main).result()"])
def test_under_uvloop(run: Run, first: str, where: str) -> None:
    pytest.importorskip("uvloop", reason="uvloop is not installed")
    imports = ["import uvloop", "from goproc import after, aselect, chan, go"]
    script = f"""
        {imports[first == "goproc"]}
        {imports[first != "goproc"]}
        async def work():
            ch = chan()
            go(ch.send, 3)
            go.local(lambda: ch.send(4))
            values = sorted([await ch.arecv(), await ch.arecv()])
            await aselect(ch, after(0.01))
            return values, await go(pow, 2, 5), await go.local(pow, 2, 6)
        def main(): return uvloop.run(work())
        print({where})
    """
    assert ok(run(script)) == "([3, 4], 32, 64)\n"


def test_misuse(run: Run) -> None:
    main = """
        ch = chan()
        for make in (lambda: aselect(3), lambda: aselect(ch.send), lambda: ch.tx.arecv(), lambda: ch.rx.asend(1),
                     lambda: ch.asend(threading.Lock())):
            try: await make()
            except Exception as exc: print(type(exc).__name__)
    """
    done = run(program(main, "main"))
    assert ok(done).split() == ["TypeError", "TypeError", "TypeError", "TypeError", "PickleError"]


def test_no_deadlock_is_reported(run: Run) -> None:
    """A loop that waits may be woken by anything: no deadlock is reported."""
    main = """
        try: await asyncio.wait_for(chan().arecv(), 0.4)
        except TimeoutError: print("timed out")
    """
    assert ok(run(program(main, "main"))) == "timed out\n"
