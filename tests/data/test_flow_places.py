"""A flow may be consumed anywhere: in a goroutine on a worker, in a thread, in an event loop, in a script."""

import asyncio
import itertools
import threading

import pytest
from peek import until_only_main

from goproc import chan, flow, go
from goproc.errors import PickleError


def inc(x):
    return x + 1


def use():
    return list(flow(range(20)).map(inc, 2).filter(lambda x: x % 2).batch(4).map(sum, 2))


SUMS = [16, 48, 36]


def test_in_a_goroutine_on_a_worker(runtime2):
    assert go(use).result() == SUMS
    assert [g.result() for g in [go(use) for _ in range(4)]] == [SUMS] * 4


def test_in_a_stage_of_a_flow(runtime2):
    assert list(flow(range(3)).map(lambda x: sum(flow(range(x)).map(inc)))) == [0, 1, 3]


def test_flow_is_sent_to_a_goroutine(runtime2):
    numbers = flow([1, 2, 3]).map(inc, 2)
    assert go(list, numbers).result() == [2, 3, 4]
    with pytest.raises(PickleError, match="cannot be sent"):
        go(list, iter(numbers))
    with pytest.raises(PickleError, match="cannot be sent"):
        go(list, numbers.tee()[0])


def test_in_a_thread(runtime2):
    got = []
    thread = threading.Thread(target=lambda: got.append(use()))
    thread.start()
    thread.join()
    assert got == [SUMS]
    until_only_main()


def test_threads_leave_early(runtime2):
    got = []

    def first():
        with iter(flow(itertools.count()).map(inc)) as results:
            got.append(next(results))

    thread = threading.Thread(target=first)
    thread.start()
    thread.join()
    assert got == [1]
    until_only_main()


def test_in_an_event_loop(runtime2):
    async def consume():
        return [x async for x in flow(range(5)).map(inc, 2)]

    async def several():
        return await asyncio.gather(consume(), consume())

    assert asyncio.run(several()) == [[1, 2, 3, 4, 5]] * 2
    until_only_main()


def test_event_loop_leaves_early(runtime2):
    async def first():
        results = aiter(flow(itertools.count()).map(inc))
        got = await anext(results)
        await results.aclose()
        return got, [x async for x in results]

    assert asyncio.run(first()) == (1, [])
    until_only_main()


def test_cancelled_task_loses_no_value(runtime2):
    gate = chan()

    async def main():
        results = aiter(flow(gate).map(inc))
        task = asyncio.ensure_future(anext(results))
        await asyncio.sleep(0.01)  # nothing to wait on: the task waits by then
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.on(1)(gate.send, 1)
        got = await anext(results)
        await results.aclose()
        return got

    assert asyncio.run(main()) == 2
    until_only_main()


def test_exception_in_an_event_loop(runtime2):
    async def consume():
        return [x async for x in flow([1, 0]).map(lambda x: 1 / x)]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(consume())
    until_only_main()


@pytest.mark.parametrize("procs", [0, 2])
def test_interrupt_ends_a_script(start, procs):
    script = """
        import itertools
        from goproc import flow

        def show(x):
            if x == 100:
                print("running", flush=True)
            return x

        for x in flow(itertools.count()).map(show, 2).map(show).filter(lambda x: False):
            pass
    """
    with start(script, procs=procs) as program:
        program.wait_for("running")
        program.interrupt()
        done = program.wait()
    assert done.status == 130
    assert "Traceback" not in done.err


def test_script_ends_while_a_flow_runs(run):
    script = """
        import itertools
        from goproc import flow

        results = iter(flow(itertools.count()).map(abs, 2))
        print(next(results))
    """
    done = run(script, procs=2)
    assert (done.status, done.out, done.err) == (0, "0\n", "")
