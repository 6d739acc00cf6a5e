"""Log records of workers reach the handlers of the script as if they had been emitted there."""

from __future__ import annotations

import pytest
from programs import Run, ok

# A script begins with this: a handler that keeps the records.
KEEP = """
    import logging, sys, threading, time
    from goproc import blocking, chan, go, proc, procs, sleep
    class Keep(logging.Handler):
        def __init__(self):
            super().__init__()
            self.records = []
        def emit(self, record): self.records.append(record)
        def texts(self): return [record.getMessage() for record in self.records]
    kept = Keep()
    logging.basicConfig(level=logging.INFO, handlers=[kept])
    log = logging.getLogger("app.part")
"""


def test_all_arrive_before_the_result(run: Run) -> None:
    script = (
        KEEP
        + """
    def job(i):
        for k in range(100): log.info("%d.%d", i, k)
        return i
    for g in [go(job, i) for i in range(20)]: g.result()
    print(len(kept.records), len(set(kept.texts())))
    for i in range(200):
        go(log.info, "one %s", i).result()
        assert kept.texts()[-1] == f"one {i}", (i, kept.texts()[-1])
    print(len(kept.records))
    """
    )
    assert ok(run(script)) == "2000 2000\n2200\n"


def test_basic_config_is_enough(run: Run) -> None:
    script = """
        import logging
        from goproc import go
        logging.basicConfig(level=logging.INFO, format="%(levelname)s:%(name)s:%(proc)d:%(processName)s:%(funcName)s:%(message)s")
        log = logging.getLogger("app")
        def job():
            log.info("in a goroutine")
            log.debug("nobody wants it")
        log.info("before")
        go.on(1)(job).result()
    """
    done = run(script)
    assert (done.status, done.out) == (0, "")
    assert done.err == "INFO:app:0:MainProcess:<module>:before\nINFO:app:1:goproc-1:job:in a goroutine\n"


def test_a_record_says_where_it_comes_from(run: Run) -> None:
    script = (
        KEEP
        + """
    from goproc import current
    import os
    def job():
        log.info("goroutine")
        blocking(log.info, "a thread of blocking")
        thread = threading.Thread(target=log.info, args=("a thread",))
        thread.start()
        thread.join()
        return current().id, os.getpid()
    g = go.on(2)(job)
    number, pid = g.result()
    log.info("main")
    found = [(r.goroutine, r.proc, r.processName, r.process == pid) for r in kept.records]
    print(found == [(number, 2, "goproc-2", True)] * 2 + [(0, 2, "goproc-2", True), (1, 0, "MainProcess", False)], found)
    r = kept.records[0]
    print(r.name, r.lineno > 0, r.funcName, r.threadName, r.pathname.endswith(".py"), 0 < r.relativeCreated < 1e5)
    """
    )
    assert ok(run(script)).splitlines()[0].startswith("True")


def test_records_have_the_fields_before_the_first_use(run: Run) -> None:
    script = """
        import goproc
        import logging
        logging.basicConfig(level=logging.INFO, format="%(goroutine)s %(proc)s %(message)s")
        logging.info("early")
        logging.info("mine", extra={"proc": "the user's"})
    """
    assert run(script).err == "1 0 early\n1 the user's mine\n"


def test_levels_of_the_script_hold_in_workers(run: Run) -> None:
    script = (
        KEEP
        + """
    logging.getLogger("app.loud").setLevel(logging.DEBUG)
    logging.getLogger("app.off").disabled = True
    logging.addLevelName(25, "NOTICE")
    def job():
        return [logging.getLogger(name).isEnabledFor(level)
            for name, level in [("app.loud", 10), ("app.part", 10), ("app.part", 20), ("app.off", 50)]], logging.getLevelName(25)
    print([go.on(p)(job).result() for p in (1, 2)] == [([True, False, True, False], "NOTICE")] * 2)
    log.setLevel(logging.DEBUG)
    logging.getLogger("app.loud").setLevel(logging.NOTSET)
    print([go.on(p)(job).result()[0] for p in (0, 1, 2)] == [[False, True, True, False]] * 3)
    def nested(): return go.on(2)(job).result()[0]
    print(go.on(1)(nested).result())
    logging.disable(logging.CRITICAL)
    print(go.on(1)(job).result()[0])
    logging.disable(logging.NOTSET)
    print(go.on(1)(job).result()[0])
    """
    )
    assert ok(run(script)) == (
        "True\nTrue\n[False, True, True, False]\n[False, False, False, False]\n[False, True, True, False]\n"
    )


def test_levels_that_a_goroutine_sets_are_its_own(run: Run) -> None:
    script = (
        KEEP
        + """
    def job():
        log.setLevel(logging.DEBUG)
        log.debug("wanted")
    def later(): log.debug("unwanted")
    go.on(1)(job).result()
    go.on(1)(later).result()
    print(kept.texts())
    """
    )
    assert ok(run(script)) == "['wanted']\n"


def test_logging_imported_after_the_first_goroutine(run: Run) -> None:
    script = """
        from goproc import go
        def level():
            import logging
            return logging.getLogger("app").isEnabledFor(logging.INFO)
        print(go.on(1)(level).result())
        import logging
        texts = []
        class Keep(logging.Handler):
            def emit(self, record): texts.append(record.getMessage())
        logging.basicConfig(level=logging.INFO, handlers=[Keep()])
        def job(): logging.getLogger("app").info("heard")
        print(go.on(1)(level).result())
        go.on(1)(job).result()
        print(texts)
    """
    assert ok(run(script)) == "False\nTrue\n['heard']\n"


def test_only_workers_log(run: Run) -> None:
    """The script does not import logging: its last resort writes warnings to stderr, as it would in the script."""
    script = """
        import sys
        from goproc import go
        assert "logging" not in sys.modules
        def job():
            import logging
            logging.getLogger("app").warning("careful")
            logging.getLogger("app").info("nobody wants it")
        go.on(1)(job).result()
        print("result", file=sys.stderr)
    """
    done = run(script)
    assert (done.status, done.err) == (0, "careful\nresult\n")


def test_filters_and_handlers_of_the_script(run: Run) -> None:
    script = (
        KEEP
        + """
    class Only(logging.Filter):
        def filter(self, record):
            record.seen = proc()
            return "secret" not in record.getMessage()
    log.addFilter(Only())
    own = Keep()
    child = logging.getLogger("app.part.child")
    child.addHandler(own)
    child.propagate = False
    def job():
        log.info("a secret")
        log.info("no %s", "worry")
        child.info("to its own handler")
    go.on(1)(job).result()
    print(kept.texts(), own.texts(), kept.records[0].seen)
    """
    )
    assert ok(run(script)) == "['no worry'] ['to its own handler'] 0\n"


def test_exceptions_stacks_and_extra_fields(run: Run) -> None:
    script = (
        KEEP
        + """
    class Thing:
        def __init__(self, n): self.n = n
        def __repr__(self): return f"Thing({self.n})"
    class Own(Exception): pass
    def fail(): raise Own("broken")
    def job():
        try: fail()
        except Own: log.exception("it failed", extra={"thing": Thing(3), "lock": threading.Lock(), "plain": [1, 2]})
        log.info("stack", stack_info=True)
        log.info("type %s of %s", Thing, Thing(4))
        log.info("lock %s", threading.Lock())
        log.info("%(a)s and %(b)s", {"a": 1, "b": "two"})
        log.info({"msg": "a dict"})
    go.on(1)(job).result()
    r = kept.records[0]
    print(r.exc_info[0] is Own, r.exc_info[1].args, "in fail" in r.exc_text, r.thing.n, r.lock[:16], r.plain)
    print(logging.Formatter("%(message)s").format(r).splitlines()[-1])
    print("in job" in kept.records[1].stack_info, kept.records[2].args[1].n, kept.texts()[2:3], kept.texts()[4:])
    print("unlocked _thread.lock" in kept.texts()[3], kept.records[5].msg)
    """
    )
    assert ok(run(script)).splitlines() == [
        "True ('broken',) True 3 <unlocked _threa [1, 2]",
        "Own: broken",
        "True 4 [\"type <class '__main__.Thing'> of Thing(4)\"] ['1 and two', \"{'msg': 'a dict'}\"]",
        "True {'msg': 'a dict'}",
    ]


def test_context_variables_of_the_goroutine_are_those_of_its_records(run: Run) -> None:
    script = (
        KEEP
        + """
    import contextvars
    request = contextvars.ContextVar("request", default="none")
    class WithRequest(logging.Filter):
        def filter(self, record):
            record.request = request.get()
            return True
    kept.addFilter(WithRequest())
    def job(i):
        request.set(f"r{i}")
        log.info("x")
    for i in range(3): go(job, i).result()
    go(log.info, "x").result()
    print([r.request for r in kept.records])
    """
    )
    assert ok(run(script)) == "['r0', 'r1', 'r2', 'none']\n"


def test_threads_of_a_worker_log_before_the_result(run: Run) -> None:
    script = (
        KEEP
        + """
    def many():
        for i in range(250): log.info("%d", i)
    def job():
        threads = [threading.Thread(target=many) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
    go.on(1)(job).result()
    print(len(kept.records))
    """
    )
    assert ok(run(script)) == "1000\n"


def test_records_of_a_failing_goroutine_come_before_its_failure(run: Run) -> None:
    script = """
        import logging
        from goproc import go, sleep
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        def job():
            for i in range(50): logging.info("line %d", i)
            raise ValueError("end")
        try: go(job).result()
        except ValueError: logging.info("caught")
        go(job)
        sleep(20)
    """
    done = run(script)
    lines = done.err.splitlines()
    expected = [f"line {i}" for i in range(50)]
    assert lines[:51] == [*expected, "caught"] and lines[51:101] == expected
    assert lines[101] == "panic: end" and done.status == 2


@pytest.mark.parametrize(
    "end", ["sys.exit(3)", "import atexit; atexit.register(log.info, 'at exit'); log.info('last')"]
)
def test_records_at_the_very_end(run: Run, end: str) -> None:
    script = f"""
        import logging, sys
        from goproc import go, sleep
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        log = logging.getLogger()
        def job():
            log.info("first")
            {end}
        g = go.on(1)(job)
        g.join()
    """
    done = run(script)
    assert done.out == ("first\n" if "sys" in end else "first\nlast\nat exit\n")
    assert done.status == (3 if "sys" in end else 0)


def test_while_main_computes(run: Run) -> None:
    script = (
        KEEP
        + """
    def job():
        for i in range(300): log.info("%d", i)
    gs = [go.on(p)(job) for p in (1, 2)]
    until = time.monotonic() + 20
    while any(g.state != "done" for g in gs) and time.monotonic() < until: sum(range(1000))
    print(len(kept.records))
    """
    )
    assert ok(run(script)) == "600\n"


def test_more_than_the_channel_holds_while_a_handler_is_slow(run: Run) -> None:
    script = (
        KEEP
        + """
    gate = threading.Event()
    kept.addFilter(lambda record: gate.wait(20))
    def job():
        for i in range(3000): log.info("%d", i)
        return "done"
    other = go.on(1)(job)
    print(go.on(1)(pow, 2, 3).result())  # others run while it waits for room
    gate.set()
    print(other.result(), len(kept.records))
    """
    )
    assert ok(run(script)) == "8\ndone 3000\n"


def test_a_goroutine_that_configures_logging_itself(run: Run) -> None:
    """A handler that a worker adds is called there, once; basicConfig() is already done there, as in the script."""
    script = (
        KEEP
        + """
    import os
    def job(path):
        logging.basicConfig(level=logging.DEBUG)
        log.debug("unwanted")
        handler = logging.FileHandler(path)
        log.addHandler(handler)
        log.info("both")
        log.removeHandler(handler)
        log.info("one")
        return open(path).read()
    print(repr(go.on(1)(job, os.path.abspath("own.log")).result()), kept.texts())
    """
    )
    assert ok(run(script)) == "'both\\n' ['both', 'one']\n"


def test_a_handler_that_raises_and_bad_arguments_are_reported_as_in_the_script(run: Run) -> None:
    script = """
        import logging
        from goproc import go
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        def job():
            logging.info("%d", "no number")
            logging.info("next")
            return 1
        print(go.on(1)(job).result())
    """
    done = run(script)
    assert (done.status, done.out) == (0, "1\n")
    assert "--- Logging error ---" in done.err and "TypeError: %d format" in done.err
    assert done.err.endswith("next\n")


def test_a_cancelled_goroutine_and_one_past_its_deadline_can_log(run: Run) -> None:
    script = (
        KEEP
        + """
    from goproc import Cancelled, context
    def job(ready):
        try:
            ready.send(1)
            sleep(20)
        except Cancelled:
            log.info("cleaning up")
            raise
    ready = chan()
    g = go.on(1)(job, ready)
    ready.recv()
    g.cancel()
    g.join()
    def late():
        try:
            with context.timeout(0.01): sleep(20)
        except TimeoutError: log.info("too late")
    go.on(1)(late).result()
    print(kept.texts())
    """
    )
    assert ok(run(script)) == "['cleaning up', 'too late']\n"


def test_a_process_that_a_goroutine_forks_logs_by_itself(run: Run) -> None:
    script = """
        import logging, os, sys, warnings
        from goproc import go
        warnings.simplefilter("ignore")  # Python's own against forks in a process with threads
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        def job():
            logging.info("parent")
            pid = os.fork()
            if pid == 0:
                logging.basicConfig(level=logging.INFO, format="child: %(message)s", force=True)
                logging.info("hello")
                os._exit(0)
            return os.waitpid(pid, 0)[1]
        print(go.on(1)(job).result())
    """
    done = run(script)
    assert (done.status, done.out, sorted(done.err.splitlines())) == (0, "0\n", ["child: hello", "parent"])


def test_several_runtimes_one_after_the_other(run: Run) -> None:
    script = (
        KEEP
        + """
    from goproc import runtime
    for i in range(3):
        with runtime(procs=1):
            go.on(1)(log.info, "runtime %d", i).result()
        log.info("none")
    print(kept.texts(), [t.name for t in threading.enumerate()])
    """
    )
    texts = ["runtime 0", "none", "runtime 1", "none", "runtime 2", "none"]
    assert ok(run(script)) == f"{texts} ['MainThread']\n"


def test_the_class_of_loggers_is_that_of_the_script(run: Run) -> None:
    script = """
        import logging
        class Loud(logging.Logger):
            def shout(self, text): self.warning(text.upper())
        logging.setLoggerClass(Loud)
        log = logging.getLogger("app")
        logging.basicConfig(format="%(message)s")
        from goproc import go
        go.on(1)(lambda: log.shout("loud")).result()
        go.on(1)(lambda: logging.getLogger("another").shout("louder")).result()
    """
    assert run(script).err == "LOUD\nLOUDER\n"


def test_a_forked_child_of_the_script_logs_by_itself(run: Run) -> None:
    script = """
        import logging, os, sys
        from goproc import blocking, go
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        go.on(1)(logging.info, "worker").result()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            logging.info("child")
            blocking(logging.info, "blocking")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        logging.info("script")
    """
    assert run(script, options=["--no-pin"]).out == "worker\nchild\nblocking\nscript\n"


def test_without_workers(run: Run) -> None:
    script = (
        KEEP
        + """
    go(log.info, "here").result()
    print(kept.texts(), kept.records[0].proc, kept.records[0].goroutine > 1)
    """
    )
    assert ok(run(script, procs=0)) == "['here'] 0 True\n"


def test_a_script_named_logging(run: Run, tmp_path: object) -> None:
    """A file beside the script with the name of the module is the program's own."""
    from pathlib import Path

    (Path(str(tmp_path)) / "logging.py").write_text("def info(text): print('own', text)\n")
    script = """
        import logging
        from goproc import go
        def job(): logging.info("x")
        go.on(1)(job).result()
        logging.info("y")
    """
    assert ok(run(script)) == "own x\nown y\n"


@pytest.mark.parametrize("options", ["", ", threads=4", ", ordered=False", ", workers=6"])
def test_records_of_a_map_come_before_each_result(run: Run, options: str) -> None:
    script = (
        KEEP
        + f"""
    from goproc import pmap
    def job(i):
        log.info("item %d", i)
        return i
    seen = set()
    for value in pmap(job, range(400){options}):
        seen.update(kept.texts())
        assert f"item {{value}}" in seen, value
    print(len(kept.records))
    """
    )
    assert ok(run(script)) == "400\n"
