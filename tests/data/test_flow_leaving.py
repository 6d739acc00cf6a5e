"""Flows that are left while calls run that do not react, by an exception, by close() or because nobody has them."""

from __future__ import annotations

import pytest
from programs import Run

HEAD = """
    import os, signal, threading, time
    from goproc import chan, flow, num_goroutine, sleep
    begun = chan(10)
    class Alarm(Exception): pass
    def alarm(*_): raise Alarm
    signal.signal(signal.SIGALRM, alarm)
    def hang(x):
        begun.send(x)
        time.sleep(60)
    def wake():
        begun.recv()
        os.kill(os.getpid(), signal.SIGALRM)
    stages = flow(range(3)).map(hang).map(hang)
"""
TAIL = """
    while num_goroutine() > 1: sleep(0.001)
    print(list(flow(range(3)).map(abs)))
"""
WAYS = {
    "an exception in run()": """
    threading.Thread(target=wake).start()
    try: stages.run()
    except Alarm: pass
    """,
    "an exception in next()": """
    threading.Thread(target=wake).start()
    try: list(stages)
    except Alarm: pass
    """,
    "close()": """
    from goproc import go
    results = iter(stages)
    g = go.local(list, results)
    begun.recv()
    g.cancel()
    g.join()
    results.close()
    """,
    "dropped": """
    results = iter(flow(range(3)).map(lambda x: hang(x) if x else x))
    next(results)
    begun.recv()
    del results
    """,
}


@pytest.mark.parametrize("procs", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_calls_that_do_not_react_are_killed_in_silence(run: Run, way: str, procs: int) -> None:
    done = run(HEAD + WAYS[way] + TAIL, procs=procs)
    assert (done.status, done.out) == (0, "[0, 1, 2]\n"), done
    assert "nobody read" not in done.err and "Traceback" not in done.err, done


def test_a_thread_uses_goproc_for_the_first_time_after_main_has_returned(run: Run) -> None:
    done = run("""
        import threading
        from goproc import pmap
        def work():
            threading.main_thread().join()
            print(list(pmap(abs, range(3))))
        threading.Thread(target=work).start()
    """)
    assert (done.status, done.out, done.err) == (0, "[0, 1, 2]\n", ""), done
