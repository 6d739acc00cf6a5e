"""pmap in an event loop: async for, cancellation of a wait, aclose."""

import asyncio

import pytest

from goproc import chan, go, pmap, sleep

pytestmark = pytest.mark.usefixtures("runtime2")


async def collected(m):
    return [x async for x in m]


def test_async_for():
    async def main():
        return await collected(pmap(lambda x: x * x, range(200)))

    assert asyncio.run(main()) == [x * x for x in range(200)]


def test_the_loop_runs_while_results_are_waited_for():
    async def main():
        gate = chan(4)
        m = pmap(lambda x: gate.recv(), range(3), chunk=1)

        async def feed():
            for x in range(3):
                await asyncio.sleep(0.01)  # collected() waits for a result meanwhile
                gate.send(x)

        return sorted((await asyncio.gather(collected(m), feed()))[0])

    assert asyncio.run(main()) == [0, 1, 2]


def test_several_maps_in_one_loop():
    async def main():
        maps = [collected(pmap(lambda x, k=k: x * k, range(50))) for k in range(3)]
        return await asyncio.gather(*maps)

    assert asyncio.run(main()) == [[x * k for x in range(50)] for k in range(3)]


def test_a_wait_that_is_cancelled_loses_nothing():
    async def main():
        gates = [chan(1), chan(1)]  # of one call each: the map is ordered, and either call may come first
        m = pmap(lambda x: gates[x].recv(), range(2), chunk=1)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(m), 0.03)
        gates[0].send(1)
        first = await anext(m)
        gates[1].send(2)
        return [first, *await collected(m)]

    assert asyncio.run(main()) == [1, 2]


def test_a_failure_is_raised_and_ends_the_loop():
    def f(x):
        raise ValueError(x)

    async def main():
        m = pmap(f, range(3))
        with pytest.raises(ValueError):
            await collected(m)
        return await collected(m)

    assert asyncio.run(main()) == []


def test_aclose_ends_the_calls():
    ended = chan(4)

    def wait(x):
        if x == 0:
            return x
        try:
            sleep(60)
        finally:
            ended.send(x)

    async def main():
        m = pmap(wait, range(3), chunk=1)
        first = await anext(m)
        while m.stats().running < 2:
            await asyncio.sleep(0.001)
        await m.aclose()
        return first, await collected(m)

    assert asyncio.run(main()) == (0, [])
    assert len(ended) == 2


def test_async_with_closes():
    async def main():
        async with pmap(lambda x: x, range(10**9)) as m:
            found = [await anext(m) for _ in range(5)]
        return found, await collected(m)

    assert asyncio.run(main()) == ([0, 1, 2, 3, 4], [])


def test_dead_letters_do_not_block_the_loop():
    def f(x):
        raise ValueError(x)

    async def main():
        letters = chan()
        reader = go.local(lambda: [letters.recv().item for _ in range(3)])
        found = await collected(pmap(f, range(3), on_error=letters))
        while reader.state == "running":
            await asyncio.sleep(0.001)
        return found, sorted(reader.result())

    assert asyncio.run(main()) == ([], [0, 1, 2])


def test_an_event_loop_in_a_call_may_have_a_map():
    def f(x):
        async def inner():
            return sum(await collected(pmap(lambda y: x * y, range(4))))

        return asyncio.run(inner())

    assert list(pmap(f, range(4))) == [0, 6, 12, 18]
