"""pmap: workers that die, hang, grow, and are replaced while a map runs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest
from programs import Run

# Time limits are 2 s, which no short call takes, also if its process gets no CPU for some tenths.
HEAD = """
import collections, ctypes, os, signal, sys, time
import goproc
from goproc import *

def told(found):
    return [type(x.error).__name__ if isinstance(x, Failure) else x for x in found]

def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file: return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError: return False

"""
Lines = Callable[[str], list[str]]


@pytest.fixture
def lines(run: Run) -> Lines:
    """Run a program on two workers; return the lines that it printed. It may tell of deaths on stderr."""

    def of(text: str) -> list[str]:
        done = run(HEAD + textwrap.dedent(text))
        assert done.status == 0, done
        return done.out.splitlines()

    return of


@pytest.mark.parametrize(
    "way", ["os.kill(os.getpid(), 9)", "ctypes.string_at(0)", "os._exit(3)", "os.abort()"]
)
@pytest.mark.parametrize("chunk", ["'auto'", "5"])
def test_a_death_is_one_failed_item(lines: Lines, way: str, chunk: str) -> None:
    text = f"""
        def f(x):
            if x == 7: {way}
            return x
        found = list(pmap(f, range(20), on_error="return", chunk={chunk}))
        assert type(found[7].error) is WorkerDied and found[7].item == 7, found
        assert found[7].error.signal or found[7].error.status == 3
        print(told(found) == [*range(7), "WorkerDied", *range(8, 20)])
        print(list(pmap(lambda x: x, range(5))))
    """
    assert lines(text) == ["True", "[0, 1, 2, 3, 4]"]


@pytest.mark.parametrize("shares", ["threads=2", "workers=6"])
def test_the_goroutines_of_calls_that_share_a_process_have_the_name_of_the_function(
    lines: Lines, shares: str
) -> None:
    text = f"""
        def kill_it(x): os.kill(os.getpid(), 9)
        failed = next(pmap(kill_it, [1], {shares}, on_error="return"))
        print({{g[1] for g in failed.error.goroutines}})
    """
    assert lines(text) == ["{'pmap kill_it'}"]


def test_an_item_whose_process_was_killed_is_one_of_the_slowest(lines: Lines) -> None:
    text = """
        m = pmap(lambda x: x == 2 and time.sleep(60), range(4), timeout=2, on_error="skip")
        print(len(list(m)), {slow.index: slow.seconds for slow in m.stats().slowest}[2] > 2)
    """
    assert lines(text) == ["3 True"]


def test_the_items_before_it_do_not_run_again_and_those_behind_it_run_once(lines: Lines) -> None:
    text = """
        def f(x):
            with open("calls", "a") as file: file.write(f"{x} ")
            if x == 3: os.kill(os.getpid(), 9)
            return x
        print(told(pmap(f, range(8), chunk=8, workers=1, on_error="return")))
        print(open("calls").read().split())
    """
    assert lines(text) == [
        "[0, 1, 2, 'WorkerDied', 4, 5, 6, 7]",
        "['0', '1', '2', '3', '4', '5', '6', '7']",
    ]


def test_a_death_is_raised_with_its_item(lines: Lines) -> None:
    text = """
        def f(x):
            if x == "b": os.kill(os.getpid(), 9)
            return x
        try: list(pmap(f, "abc"))
        except WorkerDied as error: print(error.signal, error.memory > 0, error.__notes__[-1])
    """
    assert lines(text) == ["9 True item 1: 'b'"]


def test_an_item_whose_process_died_is_tried_again(lines: Lines) -> None:
    text = """
        first = chan(1)
        def f(x):
            if x == 2 and first.try_send(None): os._exit(1)
            return x
        m = pmap(f, range(6), retries=1)
        print(list(m), m.stats().retried, m.stats().failed)
        def g(x):
            if x == 2: os._exit(1)
            return x
        found = list(pmap(g, range(4), retries=2, on_error="return"))
        print(told(found), found[2].attempts)
    """
    assert lines(text) == ["[0, 1, 2, 3, 4, 5] 1 0", "[0, 1, 'WorkerDied', 3] 3"]


@pytest.mark.parametrize("way", ["time.sleep(600)", "exec('while True: pass')"])
def test_a_call_that_does_not_react_to_its_time_limit_is_killed(lines: Lines, way: str) -> None:
    text = f"""
        def f(x):
            if x == 1: {way}
            return x
        found = list(pmap(f, range(6), timeout=2, on_error="return"))
        print(told(found), found[1].seconds > 2.9, isinstance(found[1].error, TimeoutError))
    """
    assert lines(text) == ["[0, 'TaskTimeout', 2, 3, 4, 5] True True"]


def test_time_limits_hold_while_nobody_is_in_next(lines: Lines) -> None:
    text = """
        def f(x):
            if x == 1:
                with open("pid", "w") as file: file.write(str(os.getpid()))
                time.sleep(600)
            return x
        m = pmap(f, range(4), timeout=2, on_error="return")
        print(next(m))
        while not os.path.exists("pid") or not open("pid").read(): time.sleep(0.01)
        pid = int(open("pid").read())
        while os.path.exists(f"/proc/{pid}"): time.sleep(0.01)
        print(told(m))
    """
    assert lines(text) == ["0", "['TaskTimeout', 2, 3]"]


def test_time_limit_of_a_call_in_a_shared_process_fails_its_item_alone(lines: Lines) -> None:
    text = """
        def f(x):
            if x == 1: time.sleep(600)
            sleep(0.1)  # the length of the call
            return x
        m = pmap(f, range(8), workers=4, timeout=2, on_error="return")
        print(told(m), m.stats().retried)
        def g(x):
            time.sleep(600 if x == 1 else 0.1)
            return x
        m = pmap(g, range(9), threads=3, timeout=2, on_error="return")
        print(told(m), m.stats().retried)
    """
    assert lines(text) == [
        "[0, 'TaskTimeout', 2, 3, 4, 5, 6, 7] 0",
        "[0, 'TaskTimeout', 2, 3, 4, 5, 6, 7, 8] 0",
    ]


def test_death_of_a_shared_process_fails_all_calls_that_run_there(lines: Lines) -> None:
    text = """
        both = Barrier(4)
        def f(x):
            both.wait()
            if x == 0: os._exit(1)
            sleep(0.3)  # the length of the call
            return x
        found = told(pmap(f, range(4), workers=4, on_error="return"))
        print(found.count("WorkerDied"), found[0])
    """
    assert lines(text) == ["2 WorkerDied"]


def test_close_kills_a_call_that_does_not_react(lines: Lines) -> None:
    text = """
        hung = chan(2)
        def f(x):
            if x:
                hung.send(os.getpid())
                time.sleep(600)
            return x
        m = pmap(f, range(4), chunk=1)
        print(next(m))
        pids = [hung.recv(), hung.recv()]
        m.close()
        print([lives(pid) for pid in pids], list(m), list(pmap(abs, [-1])))
    """
    assert lines(text) == ["0", "[False, False] [] [1]"]


def test_a_failure_ends_calls_that_do_not_react(lines: Lines) -> None:
    text = """
        def f(x):
            if x == 0: time.sleep(600)
            raise ValueError(x)
        try: list(pmap(f, range(2), chunk=1))
        except ValueError as error: print(repr(error))
    """
    assert lines(text) == ["ValueError(1)"]


def test_a_map_that_is_dropped_kills_a_call_that_does_not_react(lines: Lines) -> None:
    text = """
        def f(x):
            if x: time.sleep(600)
            return x
        m = pmap(f, range(4), chunk=1)
        next(m)
        while m.stats().running < 2: time.sleep(0.01)
        del m
        print(list(pmap(abs, range(-4, 0))))
    """
    assert lines(text) == ["[4, 3, 2, 1]"]


def test_recycle_replaces_a_process_after_so_many_items(lines: Lines) -> None:
    text = """
        ended = chan(100)
        def f(x): return x, os.getpid()
        found = list(pmap(f, range(30), recycle=5, init=os.getpid, exit=ended.send))
        print([x for x, _ in found] == list(range(30)))
        items = collections.Counter(pid for _, pid in found)
        print(max(items.values()), set(ended.recv_many(100)) >= set(items))
    """
    assert lines(text) == ["True", "5 True"]


def test_recycle_where_calls_share_a_process(lines: Lines) -> None:
    text = """
        print(list(pmap(abs, range(60), recycle=7, workers=5, ahead=8)) == list(range(60)))
    """
    assert lines(text) == ["True"]


def test_memory_replaces_a_process_that_has_grown(lines: Lines) -> None:
    text = """
        kept = []
        def f(x):
            if x == 2: kept.append(bytes(range(256)) * (600 << 10))
            return os.getpid(), len(kept)
        found = list(pmap(f, range(8), memory="100M", workers=1))
        print(len({pid for pid, _ in found}), [n for _, n in found])
    """
    assert lines(text) == ["2 [0, 0, 1, 0, 0, 0, 0, 0]"]


def test_a_death_in_init_ends_the_map(lines: Lines) -> None:
    text = """
        try: list(pmap(abs, range(3), init=lambda: os._exit(1), on_error="skip"))
        except WorkerDied as error: print(error.status)
    """
    assert lines(text) == ["1"]


def test_exit_is_not_called_after_a_kill(lines: Lines) -> None:
    text = """
        ended = chan(10)
        def f(x):
            if x == 1: os.kill(os.getpid(), 9)
            return x
        found = list(pmap(f, range(3), init=os.getpid, exit=ended.send, workers=1, on_error="skip"))
        print(found, len(ended))
    """
    assert lines(text) == ["[0, 2] 1"]


def test_keys_stay_in_order_over_a_death(lines: Lines) -> None:
    text = """
        order = chan(100)
        first = chan(1)
        def f(item):
            if item == (0, 3) and first.try_send(None): os._exit(1)
            order.send(item)
            return item
        items = [(key, n) for n in range(8) for key in range(4)]
        print(list(pmap(f, items, key=lambda i: i[0], retries=1)) == items)
        ran = order.recv_many(100)
        print(all([n for k, n in dict.fromkeys(ran) if k == key] == list(range(8)) for key in range(4)))
    """
    assert lines(text) == ["True", "True"]


def test_workers_killed_from_outside_cost_nothing_but_time(lines: Lines) -> None:
    text = """
        def f(x):
            time.sleep(0.005)  # the length of the call
            return x
        m = pmap(f, range(200), retries=9)
        found = []
        for x in m:
            found.append(x)
            if x in (20, 60, 100): goproc.kill(1 + x % 2)
        print(found == list(range(200)))
    """
    assert lines(text) == ["True"]


def test_an_item_that_kills_each_process_that_reads_it_fails(lines: Lines) -> None:
    text = """
        class Bomb:
            def __reduce__(self): return os._exit, (1,)
        print(told(pmap(lambda x: 1, [Bomb(), 2, 3], on_error="return", workers=1, chunk=1)))
    """
    assert lines(text) == ["['WorkerDied', 1, 1]"]


def test_interrupt_ends_a_map_once(run: Run) -> None:
    done = run(
        HEAD
        + textwrap.dedent("""
        def f(x):
            if x == 3: os.kill(host, signal.SIGINT)
            time.sleep(0.05)  # the length of the call
            return x
        host = os.getpid()
        for _ in pmap(f, range(1000)): pass
    """)
    )
    assert done.status == 130, done
    assert "Traceback" not in done.err or done.err.count("KeyboardInterrupt") <= 2


def test_the_call_that_blocks_its_process_fails_not_one_beside_it(lines):
    program = """
    def f(x):
        if x == 3: time.sleep(60)  # an older call shares the process, and cannot go on
        sleep(0.2)  # the length of the call
        return x

    m = pmap(f, range(16), workers=8, timeout=2, on_error="return")
    found = list(m)
    print([x.index for x in found if isinstance(x, Failure)], told(found)[3], m.stats().retried)
    """
    assert lines(program) == ["[3] TaskTimeout 0"]


@pytest.mark.parametrize("kin", ["pfor", "pfilter"])
def test_a_call_that_dies_has_the_names_of_the_function_and_of_the_map(lines: Lines, kin: str) -> None:
    text = f"""
        from goproc import chan, {kin}
        def die(x): os.kill(os.getpid(), 9)
        dead = chan(1)
        list({kin}(die, [1], on_error=dead) or ())
        print({{g[1] for g in dead.recv().error.goroutines}})
    """
    assert lines(text) == [f"{{'{kin} die'}}"]
