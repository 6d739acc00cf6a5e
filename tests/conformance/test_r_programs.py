"""R, whole programs: the classics of Go's own tests, run as scripts, their goroutines wherever the runtime puts them.

Most of their goroutines never end: a program that ends with them still there is part of the case.
"""

from __future__ import annotations

import pytest

PRIMES = "2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59 61 67 71 73 79 83 89 97"


@pytest.mark.parametrize("procs", [0, 1, 2, 4])
def test_R01_sieve_as_a_chain_of_filters(run, procs):
    done = run(
        """
        from goproc import chan, go

        def generate(out):
            n = 2
            while True:
                out.send(n)
                n += 1

        def strain(source, out, prime):
            for n in source:
                if n % prime:
                    out.send(n)

        numbers = chan()
        go(generate, numbers)
        for _ in range(25):
            prime = numbers.recv()
            print(prime, end=" ")
            rest = chan()
            go(strain, numbers, rest, prime)
            numbers = rest
        """,
        procs=procs,
    )
    assert (done.status, done.out.split(), done.err) == (0, PRIMES.split(), "")


@pytest.mark.parametrize("procs", [0, 1, 2, 4])
def test_R02_sieve_with_merged_multiples(run, procs):
    """Primes come back to those who make their multiples: with a bounded channel there instead it would deadlock."""
    done = run(
        """
        import heapq
        from collections import deque
        from goproc import chan, go, nil, select

        def odd_numbers(out):
            n = 5
            while True:
                out.send(n)
                n += 2

        def multiples(prime, out):
            n = prime * prime
            while True:
                out.send(n)
                n += 2 * prime

        def unbounded(source, out):
            waiting = deque()
            while True:
                sending = (out.send, waiting[0]) if waiting else nil
                index, value, ok = select(source, sending)
                if index == 0:
                    waiting.append(value)
                else:
                    waiting.popleft()

        def merge(primes, out):
            # The smallest number of each stream, and the stream. The first multiple of a prime to send is its square:
            # all that is smaller has gone out before the next prime is asked for.
            heads = []
            for prime in primes:
                stream = chan()
                go(multiples, prime, stream)
                square = stream.recv()
                while heads and heads[0][0] < square:
                    n, of, its = heads[0]
                    out.send(n)
                    heapq.heapreplace(heads, (its.recv(), of, its))
                out.send(square)
                heapq.heappush(heads, (stream.recv(), prime, stream))

        def sieve(composites, primes, out):
            candidates = chan()
            go(odd_numbers, candidates)
            n = candidates.recv()
            for composite in composites:
                while n < composite:
                    primes.send(n)
                    out.send(n)
                    n = candidates.recv()
                if n == composite:
                    n = candidates.recv()

        found, primes, ordered, composites = chan(), chan(), chan(), chan()
        go(unbounded, primes, ordered)
        go(merge, ordered, composites)
        go(sieve, composites, primes, found)
        primes.send(3)
        print(2, 3, *(found.recv() for _ in range(23)))
        """,
        procs=procs,
    )
    assert (done.status, done.out.split(), done.err) == (0, PRIMES.split(), "")


SERIES = """
import sys
from collections import deque
from fractions import Fraction
from goproc import chan, go, nil, select

# A power series is a goroutine that waits for a request and answers it with its next coefficient.

class Series:
    def __init__(self):
        self.request, self.answer = chan(), chan()

    def get(self):
        self.request.send(None)
        return self.answer.recv()

    def put(self, value):
        self.request.recv()
        self.answer.send(value)

def get_both(u, v):
    # Asks both, in the order in which they can be asked, and takes the answers in the order in which they come.
    got = {}
    asking = {u: (u.request.send, None), v: (v.request.send, None)}
    taking = {}
    while len(got) < 2:
        cases = [(s, case) for s, case in [*asking.items(), *taking.items()]]
        index, value, _ = select(*(case for _, case in cases))
        series = cases[index][0]
        if series in asking:
            del asking[series]
            taking[series] = series.answer
        else:
            del taking[series]
            got[series] = value
    return got[u], got[v]

def series(body, *args):
    z = Series()
    go(body, z, *args)
    return z

def copy(z, u):
    while True:
        z.request.recv()
        z.answer.send(u.get())

def split(u):
    pair = Series(), Series()
    go(splitting, u, *pair)
    return pair

def splitting(u, *outs):
    # One may be far ahead of the other, and ask again while the answer for the other is still being computed.
    ahead, asked, pending = (deque(), deque()), [False, False], False
    while True:
        index, value, _ = select(
            nil if asked[0] else outs[0].request,
            nil if asked[1] else outs[1].request,
            u.answer if pending else nil,
        )
        if index == 2:
            pending = False
            for queue in ahead:
                queue.append(value)
        else:
            asked[index] = True
        for i in (0, 1):
            if asked[i] and ahead[i]:
                outs[i].answer.send(ahead[i].popleft())
                asked[i] = False
        if not pending and any(asked):
            u.request.send(None)
            pending = True

def constant(c):
    def body(z):
        while True:
            z.put(c)
    return series(body)

def add(u, v):
    def body(z):
        while True:
            z.request.recv()
            a, b = get_both(u, v)
            z.answer.send(a + b)
    return series(body)

def scaled(c, u):
    def body(z):
        while True:
            z.request.recv()
            z.answer.send(c * u.get())
    return series(body)

def product(u, v):
    def body(z):
        z.request.recv()
        u0, v0 = get_both(u, v)
        z.answer.send(u0 * v0)
        u1, u2 = split(u)
        v1, v2 = split(v)
        w = add(scaled(u0, v1), scaled(v0, u1))
        z.put(w.get())
        copy(z, add(w, product(u2, v2)))
    return series(body)

def derivative(u):
    def body(z):
        z.request.recv()
        u.get()
        n = 1
        while True:
            z.answer.send(n * u.get())
            n += 1
            z.request.recv()
    return series(body)

def integral(c, u):
    def body(z):
        z.put(c)
        n = 1
        while True:
            z.request.recv()
            z.answer.send(Fraction(u.get()) / n)
            n += 1
    return series(body)

def exponential(u):
    # z' = z u', with 1 as its constant term
    z = Series()
    z1, z2 = split(z)
    go(copy, z, integral(Fraction(1), product(z2, derivative(u))))
    return z1

def substituted(u, c, n):
    # u of c x**n
    def body(z):
        power = Fraction(1)
        while True:
            z.request.recv()
            z.answer.send(u.get() * power)
            power *= c
            for _ in range(n - 1):
                z.put(Fraction(0))
    return series(body)

ones = lambda: constant(Fraction(1))
u = {
    "ones": ones,
    "diff": lambda: derivative(ones()),
    "integ": lambda: integral(Fraction(0), ones()),
    "cmul": lambda: scaled(Fraction(-1), constant(Fraction(2))),
    "add": lambda: add(ones(), constant(Fraction(2))),
    "mul": lambda: product(ones(), ones()),
    "exp": lambda: exponential(ones()),
    "atan": lambda: integral(Fraction(0), substituted(ones(), Fraction(-1), 2)),
}[sys.argv[1]]()
print(*(u.get() for _ in range(10)))
"""

COEFFICIENTS = {
    "ones": "1 1 1 1 1 1 1 1 1 1",
    "diff": "1 2 3 4 5 6 7 8 9 10",
    "integ": "0 1 1/2 1/3 1/4 1/5 1/6 1/7 1/8 1/9",
    "cmul": "-2 -2 -2 -2 -2 -2 -2 -2 -2 -2",
    "add": "3 3 3 3 3 3 3 3 3 3",
    "mul": "1 2 3 4 5 6 7 8 9 10",
    "exp": "1 1 3/2 13/6 73/24 167/40 4051/720 37633/5040 43817/4480 4596553/362880",
    "atan": "0 1 0 -1/3 0 1/5 0 -1/7 0 1/9",
}


@pytest.mark.parametrize("procs", [0, 1, 2, 4])
@pytest.mark.parametrize("which", COEFFICIENTS)
def test_R03_power_series(run, which, procs):
    done = run(SERIES, which, procs=procs)
    assert (done.status, done.out.split(), done.err) == (0, COEFFICIENTS[which].split(), "")
