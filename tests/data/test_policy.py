"""The options that the calls of the data layer share: what is accepted, what is refused, and the words of the errors."""

import pickle
from math import inf, nan

import pytest

from goproc import chan
from goproc._data.policy import Failure, policy
from goproc.errors import TaskTimeout, WorkerDied


def test_defaults_allow_no_other_attempt():
    p = policy("pmap()")
    assert p.on_error == "raise"
    assert not p.allows(WorkerDied(), 1)


def test_retries_count_further_attempts_of_the_named_errors():
    p = policy("pmap()", retries=2)
    assert p.allows(WorkerDied(), 1) and p.allows(TaskTimeout(), 2)
    assert not p.allows(WorkerDied(), 3)
    assert not p.allows(ValueError(), 1)
    assert policy("pmap()", retries=1, retry_on=OSError).allows(FileNotFoundError(), 1)


def test_delay_is_a_number_or_a_function_of_the_failed_attempt():
    assert policy("pmap()", delay=2).pause(1) == 2.0
    assert policy("pmap()", delay=lambda n: n * 10).pause(3) == 30.0
    with pytest.raises(ValueError, match="delay= returned"):
        policy("pmap()", delay=lambda n: -1).pause(1)
    with pytest.raises(TypeError, match="delay= returned"):
        policy("pmap()", delay=lambda n: "soon").pause(1)


def test_on_error_may_be_a_channel(runtime2):
    letters = chan(3)
    assert policy("pmap()", on_error=letters).on_error == letters


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": nan}, ValueError, "timeout"),
        ({"timeout": inf}, ValueError, "timeout"),
        ({"timeout": "3"}, TypeError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"retries": -1}, ValueError, "retries"),
        ({"retries": 1.5}, TypeError, "retries"),
        ({"retries": True}, TypeError, "retries"),
        ({"retry_on": "OSError"}, TypeError, "retry_on"),
        ({"retry_on": (OSError, 3)}, TypeError, "retry_on"),
        ({"retry_on": int}, TypeError, "retry_on"),
        ({"delay": -0.5}, ValueError, "delay"),
        ({"delay": "1"}, TypeError, "delay"),
        ({"on_error": "ignore"}, ValueError, "'raise', 'return', 'skip'"),
        ({"on_error": None}, TypeError, "'raise', 'return', 'skip'"),
    ],
)
def test_bad_options_are_refused_by_name(options, error, text):
    with pytest.raises(error, match=text) as raised:
        policy("pmap()", **options)
    assert "pmap()" in str(raised.value)


def test_failure_is_a_record_that_travels():
    failure = Failure("n-h", 7, ValueError("bad"), 2, 1, 0.5)
    copy = pickle.loads(pickle.dumps(failure))
    assert (copy.item, copy.index, copy.attempts, copy.proc, copy.seconds) == ("n-h", 7, 2, 1, 0.5)
    assert "n-h" in repr(copy) and "ValueError('bad')" in repr(copy)
    with pytest.raises(AttributeError):
        copy.item = 3
