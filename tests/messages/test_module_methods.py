"""Functions of a module that are methods of an object of its own, as `random.random`, and `os.environ`."""

from __future__ import annotations

import pytest
from programs import Run, ok

FROM_RANDOM = "from random import getrandbits as draw, randint, random, seed"
FROM_NUMPY = "from numpy.random import bytes as draw, randint, rand as random, seed"
EACH = pytest.mark.parametrize("imported", [FROM_RANDOM, FROM_NUMPY])


@EACH
def test_each_call_draws_other_numbers(run: Run, imported: str) -> None:
    script = f"""
        {imported}
        from goproc import go, pmap
        def f(_): return random(), randint(0, 1 << 30), draw(8 * 8)
        class Dice:
            def roll(self, _): return random()
        print(len(set(pmap(f, range(40), chunk=1))), len({{go.on(1)(f, 0).result() for _ in range(5)}}))
        print(len(set(pmap(Dice().roll, range(40), chunk=1))))
        """
    assert ok(run(script)) == "40 5\n40\n"


@EACH
def test_a_goroutine_seeds_the_generator_of_its_process(run: Run, imported: str) -> None:
    module = "random" if imported is FROM_RANDOM else "numpy.random"
    script = f"""
        import {module} as module
        {imported}
        from goproc import go
        def f(plant):
            plant(7)
            return random() + getattr(module, random.__name__)()
        print(len({{f(seed), *[go.on(1)(f, plant).result() for plant in (seed, module.seed)]}}))
        """
    assert ok(run(script)) == "1\n"


def test_a_goroutine_sets_variables_for_the_programs_that_it_starts(run: Run) -> None:
    script = """
        import os, subprocess
        from os import environ, environb
        from goproc import go
        def f():
            environ["FOUND"] = "yes"
            return os.getenv("FOUND"), environb[b"FOUND"], subprocess.check_output("echo $FOUND", shell=True)
        print(go(f).result(), "FOUND" in environ)
        """
    assert ok(run(script)) == "('yes', b'yes', b'yes\\n') False\n"
