"""Programs that goroutines start: their CPUs, thread variables, and forked children that go on as programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import Run, ok

SEEN = """
    import concurrent.futures, multiprocessing, os, subprocess, sys, threading, warnings
    from goproc import go
    NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    PROGRAM = f"import os; print(sorted(os.sched_getaffinity(0)), [os.environ.get(name) for name in {NAMES}])"
    COMMAND = [sys.executable, "-c", PROGRAM]
    def text(**options):
        return subprocess.run(COMMAND, capture_output=True, text=True, check=True, **options).stdout
    def read(start):
        source, sink = os.pipe()
        os.waitpid(start(sink), 0)
        os.close(sink)
        with open(source) as file: return file.read()
    def spawned(spawn, env):
        return read(lambda sink: spawn(sys.executable, COMMAND, env, file_actions=[(os.POSIX_SPAWN_DUP2, sink, 1)]))
    def forked(become):
        def start(sink):
            warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
            if (pid := os.fork()) == 0:
                os.dup2(sink, 1)
                become()
            return pid
        return read(start)
    def shell():
        def start(sink):
            os.system(f"'{sys.executable}' -c '{PROGRAM}' >&{sink}".replace(repr(NAMES), str(NAMES).replace("'", '"')))
            return os.posix_spawn("/bin/true", ["true"], os.environ)
        return read(lambda sink: (os.set_inheritable(sink, True), start(sink))[1])
    def mask(_=None):
        with open("/proc/thread-self/status") as file: return file.read().split("Cpus_allowed_list:")[1].split()[0]
    def threads():
        with concurrent.futures.ThreadPoolExecutor(1) as pool: found = [pool.submit(mask).result()]
        t = threading.Thread(target=lambda: found.append(mask()))
        t.start()
        t.join()
        return found
    def pool(method):
        warnings.simplefilter("ignore")
        with multiprocessing.get_context(method).Pool() as pool:
            return pool._processes, pool.map(os.sched_getaffinity, [0]), pool.map(os.getenv, NAMES)
"""

WAYS = {
    "subprocess": "text()",
    "os.environ": "text(env=os.environ)",
    "a copy of os.environ": "text(env={**os.environ, 'MORE': '1'})",
    "a variable set in env=": "text(env={**os.environ, 'OMP_NUM_THREADS': '1'})",
    "posix_spawn": "spawned(os.posix_spawn, os.environ)",
    "posix_spawnp": "spawned(os.posix_spawnp, dict(os.environ))",
    "fork and execv": "forked(lambda: os.execv(sys.executable, COMMAND))",
    "fork and execve": "forked(lambda: os.execve(sys.executable, COMMAND, os.environ))",
    "system": "shell()",
    "threads": "threads()",
    "pool by fork": "pool('fork')",
    "pool by spawn": "pool('spawn')",
    "pool by forkserver": "pool('forkserver')",
    "the number of CPUs": "len(os.sched_getaffinity(0)), getattr(os, 'process_cpu_count', os.cpu_count)()",
}


@pytest.mark.parametrize("way", WAYS)
def test_goroutines_start_things_as_the_script_does(run: Run, way: str) -> None:
    script = f"""{SEEN}
    def seen(): return {WAYS[way]}
    if __name__ == "__main__":
        here, there = seen(), go.on(1)(seen).result()
        print(here == there or (here, there))
        def own():
            return [os.environ[name] for name in NAMES], os.path.basename(mask())
        print(*go.on(1)(own).result())
    """
    done = run(
        script, env={"OMP_NUM_THREADS": None, "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": ""}, gone=5.0
    )
    lines = ok(done).splitlines()
    assert lines[0] == "True", done
    assert lines[1].startswith("['1', '2', '1'] "), done


def test_variables_that_a_goroutine_sets_are_passed_on(run: Run) -> None:
    script = f"""{SEEN}
    def work():
        found = []
        for value in ("1", "3"):
            os.environ["OMP_NUM_THREADS"] = value
            found += [text(), shell()]
        del os.environ["OMP_NUM_THREADS"]
        return *found, text()
    print(*[line.partition("] ")[2] for line in go.on(1)(work).result()], sep="", end="")
    """
    names: dict[str, str | None] = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    )
    expected = [f"['{value}', None, None]" for value in (1, 1, 3, 3)] + ["[None, None, None]"]
    assert ok(run(script, env=names)).splitlines() == expected


def test_variables_of_a_worker_are_plain_text_elsewhere(run: Run) -> None:
    script = """
        import os, json
        from goproc import go
        def work(): return os.environ["NUMEXPR_NUM_THREADS"], os.environb[b"NUMEXPR_NUM_THREADS"], json.dumps(dict(os.environ))
        text, data, dumped = go.on(1)(work).result()
        print(type(text), type(data), text, data, json.loads(dumped)["NUMEXPR_NUM_THREADS"])
    """
    done = run(script, env={"NUMEXPR_NUM_THREADS": None})
    assert ok(done) == "<class 'str'> <class 'bytes'> 1 b'1' 1\n"


FORK = """
    import os, sys, warnings
    import goproc
    from goproc import go
    def work():
        warnings.simplefilter("ignore")  # as above
        if (pid := os.fork()) == 0:
            print("begun", end="")
            {end}
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print({start}(work).result())
"""


@pytest.mark.parametrize("start", ["go.on(1)", "go.on(0)", "go.local", "goproc.Group().go"])
@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("raise ValueError('in the child')", 1, "ValueError: in the child\n"),
        ("raise SystemExit('bye')", 1, "bye\n"),
        ("sys.exit(7)", 7, ""),
        ("return 'child'", 0, ""),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt\n"),
    ],
)
def test_a_forked_child_ends_with_its_goroutine(
    run: Run, start: str, end: str, status: int, said: str
) -> None:
    done = run(FORK.format(start=start, end=end))
    assert (done.status, done.out) == (0, f"begun{status}\n"), done
    assert done.err.endswith(said) and ("Traceback" in done.err) == (
        end[:11] in ("raise Value", "raise Keybo")
    ), done
    assert "goproc" not in done.err, done


def test_a_forked_child_does_not_count_for_a_wait_group(run: Run) -> None:
    script = """
        import os, warnings
        from goproc import WaitGroup
        def work(fails):
            warnings.simplefilter("ignore")  # as above
            if (pid := os.fork()) == 0:
                if fails:
                    raise ValueError("in the child")
                return "child"
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == fails
        wg = WaitGroup()
        for fails in (0, 1, 0, 1):
            wg.go(work, fails)
        wg.wait()
        print("all")
    """
    done = run(script)
    assert (done.status, done.out) == (0, "all\n"), done
    assert done.err.count("ValueError: in the child\n") == 2 and "goproc" not in done.err, done


def test_a_forked_child_leaves_the_exit_handlers_to_the_worker(run: Run, tmp_path: Path) -> None:
    script = """
        import atexit, os, sys, tempfile, warnings
        from goproc import go
        def note(text): os.write(1, text.encode())
        def work(folder):
            global kept
            warnings.simplefilter("ignore")
            kept = tempfile.TemporaryDirectory(dir=folder)
            atexit.register(note, "worker\\n")
            if (pid := os.fork()) == 0:
                atexit.register(note, "child\\n")
                kept = kept, tempfile.TemporaryDirectory(dir=folder)
                raise SystemExit(3)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return status, len(os.listdir(folder))
        print(go.on(1)(work, sys.argv[1]).result(), flush=True)
    """
    folder = tmp_path / "scratch"
    folder.mkdir()
    done = run(script, str(folder))
    assert ok(done) == "child\n(3, 1)\nworker\n"
    assert not list(folder.iterdir())
