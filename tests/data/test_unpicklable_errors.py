"""Exceptions that cannot be pickled: the options of the data layer take them for the types that they are of."""

import threading

import pytest

from goproc import Atomic, RemoteError, flow, pmap
from goproc._data.policy import policy
from goproc._pickling import failure


class Refused(ConnectionError):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def sent(exc):
    return failure.unpack(failure.pack(exc))


def test_a_remote_error_stands_for_its_type_and_the_bases():
    got = sent(Refused("no"))
    assert type(got) is RemoteError
    assert all(got.stands_for(kind) for kind in (Refused, ConnectionError, OSError, Exception, BaseException))
    assert not got.stands_for(ValueError) and not got.stands_for(KeyboardInterrupt)
    assert got.kinds[:2] == (f"{__name__}.Refused", "builtins.ConnectionError")


def test_a_remote_error_that_travels_again_keeps_the_names():
    assert sent(sent(Refused("no"))).stands_for(OSError)
    assert failure.unpack(failure.pack_briefly(Refused("no"))).stands_for(OSError)


def test_a_type_of_the_same_name_in_another_module_is_another():
    class ConnectionError(Exception):
        pass

    assert not sent(Refused("no")).stands_for(ConnectionError)


def test_a_base_exception_is_no_exception():
    class Stop(BaseException):
        def __init__(self):
            self.lock = threading.Lock()

    assert sent(Stop()).stands_for(BaseException) and not sent(Stop()).stands_for(Exception)


@pytest.mark.parametrize("kind", [Refused, OSError, (KeyError, OSError), Exception])
def test_retry_on_allows_it(kind):
    assert policy("pmap()", retries=1, retry_on=kind).allows(sent(Refused("no")), 1)


@pytest.mark.parametrize("kind", [ValueError, (KeyError, RuntimeError), ()])
def test_retry_on_does_not_allow_others(kind):
    assert not policy("pmap()", retries=1, retry_on=kind).allows(sent(Refused("no")), 1)


def test_pmap_tries_again(runtime2):
    calls = Atomic(0)

    def fetch(x):
        if calls.add(1) == 1:
            raise Refused("the first time")
        return x

    assert list(pmap(fetch, [7], retries=1, retry_on=OSError)) == [7]
    assert calls.load() == 2


def test_flow_tries_again(runtime2):
    calls = Atomic(0)

    def fetch(x):
        if calls.add(1) == 1:
            raise Refused("the first time")
        return x

    assert list(flow([7]).map(fetch, retries=1, retry_on=OSError)) == [7]
    assert calls.load() == 2


def test_pmap_does_not_try_again_for_another_type(runtime2):
    def fetch(x):
        raise Refused("always")

    with pytest.raises(RemoteError) as caught:
        list(pmap(fetch, [7], retries=3, retry_on=ValueError))
    assert caught.value.stands_for(OSError)
