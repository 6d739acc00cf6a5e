"""The command line: how words are divided between goproc and the program, and what the program then sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import goproc
from goproc.cli import UsageError, main, run

ROOT = str(Path(goproc.__path__[0]).parent)
P8, NOPIN, EXIT = {"GOPROC_PROCS": "8"}, {"GOPROC_PIN": "0"}, {"GOPROC_ON_DEATH": "exit"}


# -- dividing the words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "settings", "python"),
    [
        ("s.py", {}, "s.py"),
        ("s.py a b", {}, "s.py a b"),
        ("--procs 8 s.py", P8, "s.py"),
        ("s.py --procs 8", P8, "s.py"),
        ("s.py --procs=8 a", P8, "s.py a"),
        ("--procs 4 s.py --procs 8", P8, "s.py"),  # the later one counts
        ("--no-pin s.py --procs 8 a", P8 | NOPIN, "s.py a"),
        ("s.py --procs 8 --no-pin --on-death exit a", P8 | NOPIN | EXIT, "s.py a"),
        ("--memory 512M s.py", {"GOPROC_MEMORY": str(512 << 20)}, "s.py"),
        ("s.py --memory=1.5G", {"GOPROC_MEMORY": str(3 << 29)}, "s.py"),
        # up to the first word that is not ours ...
        ("s.py a --procs 8", {}, "s.py a --procs 8"),
        ("s.py --procs 8 a --procs 9", P8, "s.py a --procs 9"),
        ("s.py --procs 8 --verbose --no-pin", P8, "s.py --verbose --no-pin"),
        ("s.py --help", {}, "s.py --help"),
        ("s.py -h", {}, "s.py -h"),
        ("s.py -m x --procs 8", {}, "s.py -m x --procs 8"),
        ("s.py --proc 8", {}, "s.py --proc 8"),
        ("s.py --procs8", {}, "s.py --procs8"),
        ("s.py - --procs 8", {}, "s.py - --procs 8"),
        # ... or --
        ("s.py -- --procs 8", {}, "s.py --procs 8"),
        ("s.py --procs 8 -- --procs 9", P8, "s.py --procs 9"),
        ("s.py -- -- x", {}, "s.py -- x"),
        ("s.py a -- b", {}, "s.py a -- b"),
        ("--procs 8 -- s.py --procs 9", P8, "s.py --procs 9"),
        ("-- s.py -- x", {}, "s.py -- x"),
        ("-- -odd.py x", {}, "./-odd.py x"),
        ("-- -m x", {}, "./-m x"),
        ("-- - x", {}, "- x"),
        # -m and -
        ("-m pkg", {}, "-m pkg"),
        ("-m pkg.mod --procs 8 a -m b", P8, "-m pkg.mod a -m b"),
        ("-mpkg a", {}, "-m pkg a"),
        ("--procs 8 -m pkg -- --procs 9", P8, "-m pkg --procs 9"),
        ("-m -odd", {}, "-m -odd"),
        ("-", {}, "-"),
        ("- --procs 8 a", P8, "- a"),
        ("--procs 8 - a", P8, "- a"),
    ],
)
def test_split(line: str, settings: dict[str, str], python: str) -> None:
    assert run.split(line.split()) == (settings, python.split(), False)


def test_words_are_passed_as_they_are() -> None:
    words = ["s.py", "", "a b", "--procs ", "*", "\udcff"]
    assert run.split(words).python == words


@pytest.mark.parametrize("line", ["-h", "--help", "--procs 8 --help", "--no-pin -h s.py"])
def test_help_before_the_script(line: str) -> None:
    assert run.split(line.split()).help


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "no script"),
        ("--procs 8", "no script"),
        ("--", "no script"),
        ("--procs", "--procs needs a value, such as --procs 8"),
        ("s.py --procs", "--procs needs a value"),
        ("s.py --memory", "--memory needs a value, such as --memory 4G"),
        ("--procs 256 s.py", "--procs: 256 is more than goproc can start"),
        ("s.py --procs -0x1", "--procs: '-0x1' is not a whole number"),
        ("s.py --procs abc", "--procs: 'abc' is not a whole number"),
        ("s.py --procs s.py", "--procs: 's.py' is not a whole number"),
        ("--procs= s.py", "--procs: '' is not a whole number"),
        ("--procs -1 s.py", "--procs: '-1' is negative"),
        ("--procs 300 s.py", "--procs: 300 is more"),
        ("--memory lots s.py", "--memory: 'lots' is not a size"),
        ("--memory 0 s.py", "leaves no memory"),
        ("--on-death panic s.py", "'panic' is not a policy: give one of restart, continue, exit"),
        ("s.py --on-death=", "'' is not a policy"),
        ("--no-pin=1 s.py", "--no-pin takes no value"),
        ("--proc 8 s.py", "unknown option '--proc'; did you mean --procs?"),
        ("--nopin s.py", "did you mean --no-pin?"),
        ("-x s.py", "unknown option '-x'"),
        ("-c pass", "-c is not supported"),
        ("-m", "-m needs the name of a module"),
    ],
)
def test_split_refuses(line: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        run.split(line.split())
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "settings", "problem"),
    [
        ({"GOPROC_PROCS": "-1"}, {}, "GOPROC_PROCS: '-1' is negative"),
        ({"GOPROC_PROCS": "-1"}, P8, None),
        ({"GOPROC_PROCS": "0"}, {}, None),
        ({"GOPROC_PROCS": "4"}, {}, None),
        ({"GOPROC_MEMORY": "x"}, {}, "GOPROC_MEMORY: 'x'"),
        ({"GOPROC_ON_DEATH": "never"}, {}, "GOPROC_ON_DEATH: 'never'"),
        ({"GOPROC_ON_DEATH": "continue"}, {}, None),
        ({"GOPROC_PIN": "yes"}, {}, "GOPROC_PIN: 'yes'"),
        ({"GOPROC_PIN": "0"}, {}, None),
    ],
)
def test_environment(environ: dict[str, str], settings: dict[str, str], problem: str | None) -> None:
    if problem is None:
        run.check_environment(environ, settings)
    else:
        with pytest.raises(UsageError, match=problem):
            run.check_environment(environ, settings)


# -- the whole command ---------------------------------------------------------------------------------------


def command(
    *words: str, cwd: Path | None = None, text: str = "", flags: tuple[str, ...] = (), **environ: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GOPROC_")}
    return subprocess.run(
        [sys.executable, *flags, "-m", "goproc", *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=20,
        cwd=cwd,
        env={**clean, "PYTHONPATH": ROOT, **environ},
    )


SHOW = """
import os, sys
print(sys.argv, sys.path[0], __name__, {k: v for k, v in sorted(os.environ.items()) if
k.startswith("GOPROC_")})
"""


def test_script_has_the_argv_and_name_of_a_plain_run(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    done = command("run", "show.py", "--procs", "3", "--no-pin", "a", "--procs", "5", cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout == (
        f"['show.py', 'a', '--procs', '5'] {tmp_path} __main__ {{'GOPROC_PIN': '0', 'GOPROC_PROCS': '3'}}\n"
    )


def test_module_folder_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__main__.py").write_text(SHOW)
    for words in (["-m", "pkg", "a"], ["pkg", "a"], ["-", "a"], [str(tmp_path / "pkg")]):
        plain = subprocess.run(
            [sys.executable, *words], input=SHOW, capture_output=True, text=True, timeout=20, cwd=tmp_path
        )
        done = command("run", *words, cwd=tmp_path, text=SHOW)
        assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)
        assert "__main__" in done.stdout


@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(7)", 7), ("sys.exit('why')", 1), ("1 / 0", 1), ("", 0)]
)
def test_exit_status(tmp_path: Path, end: str, status: int) -> None:
    (tmp_path / "s.py").write_text(f"import sys\n{end}\n")
    done = command("run", "s.py", cwd=tmp_path)
    assert done.returncode == status
    assert "goproc" not in done.stderr


def test_flags_of_the_interpreter_are_kept(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import sys; print(sys.flags.optimize, sys.stdout.write_through)")
    assert command("run", "s.py", cwd=tmp_path, flags=("-O", "-u")).stdout == "1 True\n"


@pytest.mark.parametrize(
    ("words", "environ", "expected"),
    [
        (["--procs", "2"], {}, True),
        (["--procs", "1"], {}, True),
        (["--procs", "0"], {}, False),
        ([], {"GOPROC_PROCS": "2"}, True),
        ([], {"GOPROC_PROCS": "0"}, False),
        (["--procs", "0"], {"GOPROC_PROCS": "2"}, False),
    ],
)
def test_a_zygote_is_started_for_workers_only(
    tmp_path: Path, words: list[str], environ: dict[str, str], expected: bool
) -> None:
    (tmp_path / "s.py").write_text("import sys; print('goproc' in sys._xoptions)")
    assert command("run", "s.py", *words, cwd=tmp_path, **environ).stdout == f"{expected}\n"


def test_no_zygote_is_no_error(tmp_path: Path) -> None:
    """The limit leaves no descriptor as high as its socket needs: the program starts one itself."""
    (tmp_path / "s.py").write_text("from goproc import go; print(go.on(1)(int).result())")
    text = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (90, 90)); runpy.run_module('goproc', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", text, "run", "s.py", "--procs", "2"],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run"], "goproc run: error: no script"),
        (["run", "missing.py"], "goproc run: error: no such script: 'missing.py' in "),
        (["run", "s"], "goproc run: error: no such script: 's'; did you mean 's.py'?"),
        (["run", "empty"], "goproc run: error: 'empty' is a folder without a __main__.py"),
        (["run", "--procs", "-1", "s.py"], "goproc run: error: --procs: '-1' is negative"),
        (
            ["run", "s.py", "--on-death", "again"],
            "goproc run: error: --on-death: 'again' is not a policy",
        ),
        ([], "goproc: error: no command"),
        (["s.py"], "goproc: error: unknown command 's.py'; did you mean `goproc run s.py`?"),
        (["walk"], "goproc: error: unknown command 'walk'"),
        (["--procs", "8"], "goproc: error: unknown option '--procs'"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    problem: str,
) -> None:
    (tmp_path / "s.py").write_text("")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOPROC_PROCS", raising=False)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(problem)
    assert err.count("\n") == 1


def test_mistakes_through_the_real_command(tmp_path: Path) -> None:
    done = command("run", "missing.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"goproc run: error: no such script: 'missing.py' in '{tmp_path}'\n"
    (tmp_path / "s.py").write_text("")
    done = command("run", "s.py", cwd=tmp_path, GOPROC_PROCS="many")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("goproc run: error: GOPROC_PROCS: 'many' is not a whole number")


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for words, start in (
        (["--help"], "usage: goproc COMMAND"),
        (["run", "--help"], "usage: goproc run [OPTION...] SCRIPT"),
        (["--version"], "goproc "),
    ):
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert out.startswith(start) and err == ""
        assert all(len(line) <= 80 for line in out.splitlines())
    main(["run", "-h"])
    out, _ = capsys.readouterr()
    assert all(option in out for option in run._OPTIONS)


def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, goproc.cli, goproc.cli.run, goproc._proc.early, goproc._proc.launch, goproc._proc.zygote;"
        "heavy = 'signal', 'socket', 'ast', 'subprocess', 'typing', 'argparse', 'cloudpickle', 'greenlet', 'psutil', 'goproc._proc.host', 'goproc._sched.scheduler';"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        env={"PYTHONPATH": ROOT},
    )
    assert done.stdout == "[]\n", done.stderr
