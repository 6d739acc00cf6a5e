"""pmap: key=, id= and delay= are called in the caller; one that raises is no failure of an item."""

import asyncio
import re
import threading

import pytest

from goproc import PickleError, chan, flow, pfilter, pfor, pmap

pytestmark = pytest.mark.usefixtures("runtime2")

NAMES = {0: "a", 1: "b", 2: "c", 3: "d"}  # 4 has no name


def square(x):
    return x * x


def yielded_before(results, error):
    """Return what an iterator yields before it raises an exception of a kind, and the exception."""
    found = []
    with pytest.raises(error) as raised:
        for result in results:
            found.append(result)
    assert next(iter(results), "over") == "over"
    return found, raised.value


OPTIONS = [
    pytest.param({}, id="plain"),
    pytest.param({"chunk": 3}, id="in the middle of a chunk"),
    pytest.param({"ordered": False}, id="unordered"),
    pytest.param({"retries": 2}, id="retries"),
    pytest.param({"on_error": "return"}, id="return"),
    pytest.param({"threads": 2}, id="threads"),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_results_of_the_items_before_a_key_that_raises_come_first(options):
    m = pmap(square, range(10), key=lambda x: NAMES[x], **options)
    found, error = yielded_before(m, KeyError)
    assert sorted(found) == [0, 1, 4, 9]
    assert error.__notes__ == ["key= raised this for item 4: 4"]
    stats = m.stats()
    assert (stats.items, stats.done, stats.failed, stats.waiting) == (4, 4, 0, 0)


@pytest.mark.parametrize("options", OPTIONS)
def test_results_of_the_items_before_an_id_that_raises_come_first(options, tmp_path):
    m = pmap(square, range(10), checkpoint=tmp_path / "db", id=lambda x: NAMES[x], **options)
    found, error = yielded_before(m, KeyError)
    assert sorted(found) == [0, 1, 4, 9]
    assert error.__notes__ == ["id= raised this for item 4: 4"]


@pytest.mark.parametrize(
    "key, kind",
    [(lambda x: [x] if x == 2 else x, TypeError), (lambda x: float("nan") if x == 2 else x, ValueError)],
)
def test_results_of_the_items_before_a_key_that_is_refused_come_first(key, kind):
    found, error = yielded_before(pmap(square, range(10), key=key), kind)
    assert found == [0, 1]
    assert "for item 2" in str(error)


def test_results_of_the_items_before_a_name_that_is_refused_come_first(tmp_path):
    m = pmap(square, [1, 2, 1], checkpoint=tmp_path / "db", id=lambda x: x)
    found, error = yielded_before(m, ValueError)
    assert found == [1, 4]
    assert error.__notes__ == ["item 2: 1"]


def test_results_of_the_items_before_one_without_a_pickle_come_first(tmp_path):
    m = pmap(type, [1, (n for n in "a"), 2], checkpoint=tmp_path / "db")
    found, error = yielded_before(m, TypeError)
    assert found == [int]
    assert error.__notes__[0].startswith("item 1: <generator")


def test_a_key_that_raises_stop_iteration_does_not_end_the_map_quietly():
    found, error = yielded_before(pmap(square, range(4), key=lambda x: next(iter([x][x:]))), RuntimeError)
    assert found == [0]
    assert type(error.__cause__) is StopIteration
    assert error.__notes__ == ["key= raised this for item 1: 1"]


def test_the_key_is_asked_for_no_item_behind_one_for_which_the_key_raises():
    asked = []

    def key(x):
        asked.append(x)
        return NAMES[x]

    yielded_before(pmap(square, range(10), key=key, chunk=8), KeyError)
    assert asked == [0, 1, 2, 3, 4]


def test_recorded_results_before_a_key_that_raises_are_yielded_alone(tmp_path):
    assert list(pmap(square, [0, 9, 2], checkpoint=tmp_path / "db")) == [0, 81, 4]
    for ordered in True, False:
        items = [0, 1, 2, 4, 9]
        m = pmap(square, items, key=lambda x: NAMES[x], checkpoint=tmp_path / "db", ordered=ordered, chunk=8)
        assert sorted(yielded_before(m, KeyError)[0]) == [0, 1, 4]


def test_an_interrupt_of_a_key_loses_no_item():
    interrupts = [4, 7]

    def key(x):
        if x in interrupts:
            interrupts.remove(x)
            raise KeyboardInterrupt
        return x % 2

    m = pmap(square, range(10), key=key, chunk=5)
    found = []
    while True:
        try:
            found += m
            break
        except KeyboardInterrupt:
            pass
    assert interrupts == []
    assert found == [x * x for x in range(10)]


def test_items_of_a_channel_before_a_key_that_raises_come_first():
    ch = chan(10)
    ch.send_many([0, 1, 2, 4, 3])
    found, error = yielded_before(pmap(square, ch, key=lambda x: NAMES[x]), KeyError)
    assert found == [0, 1, 4]
    assert error.__notes__ == ["key= raised this for item 3: 4"]


@pytest.mark.parametrize("chunk", [1, 3])
def test_an_item_behind_one_for_which_the_key_raises_is_no_failure(chunk):
    class Unreadable:
        def __reduce__(self):
            return int, ("n-h",)

    ch = chan(10)
    ch.send_many([0, 4, Unreadable()])
    results = pmap(square, ch, key=lambda x: NAMES[x], on_error="return", chunk=chunk)
    assert yielded_before(results, KeyError)[0] == [0]


def test_results_before_a_key_that_raises_come_first_in_an_event_loop():
    async def main():
        found = []
        with pytest.raises(KeyError):
            async for result in pmap(square, range(10), key=lambda x: NAMES[x]):
                found.append(result)
        return found

    assert asyncio.run(main()) == [0, 1, 4, 9]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_stage_of_a_flow_hands_on_the_results_before_a_key_that_raises(on_error):
    stages = flow(range(10)).map(square, 2, key=lambda x: NAMES[x], on_error=on_error).map(str)
    found = []
    with pytest.raises(KeyError) as raised:
        for result in stages:
            found.append(result)
    assert found == ["0", "1", "4", "9"]
    assert raised.value.__notes__ == ["key= raised this for item 4: 4", "in the stage 'square' of the flow"]


@pytest.mark.parametrize(
    "delay, kind",
    [
        (lambda n: NAMES["?"], KeyError),
        (lambda n: next(iter(())), RuntimeError),
        (lambda n: -1, ValueError),
    ],
    ids=["raises", "raises StopIteration", "is refused"],
)
def test_a_delay_that_raises_ends_the_map_with_the_item(delay, kind):
    def odd(x):
        return [x][x % 2 * x]

    m = pmap(odd, range(2, 8), retries=1, retry_on=IndexError, delay=delay, workers=1, on_error="skip")
    _, error = yielded_before(m, kind)
    assert error.__notes__[-1] == "in delay=, after attempt 1 of item 1: 3"


def by_list(x):
    return [x]


@pytest.mark.parametrize(
    "kind, begin",
    [
        ("pmap()", lambda **options: list(pmap(abs, [1, 1], **options))),
        ("pfilter()", lambda **options: list(pfilter(abs, [1, 1], **options))),
        ("pfor()", lambda **options: pfor(abs, [1, 1], **options)),
        ("flow: map()", lambda **options: list(flow([1]).map(abs, **options))),
        ("flow: each()", lambda **options: flow([1]).each(abs, **options).run()),
    ],
    ids=["pmap", "pfilter", "pfor", "flow.map", "flow.each"],
)
def test_errors_about_a_key_or_a_name_name_the_call(kind, begin, tmp_path):
    named = re.escape(kind)
    with pytest.raises(TypeError, match=f"^{named}: key= returned 'list' for item 0"):
        begin(key=by_list)
    with pytest.raises(ValueError, match=f"^{named}: key= returned nan for item 0"):
        begin(key=lambda x: float("nan"))
    if "flow" in kind:
        return  # its stages have no checkpoint
    with pytest.raises(ValueError, match=f"^{named}: id= returned 1 for two items"):
        begin(checkpoint=tmp_path / "same", id=abs)
    with pytest.raises(TypeError, match=f"^{named}: id= returned .* cannot name the item"):
        begin(checkpoint=tmp_path / "unstable", id=lambda x: object())
    with pytest.raises(TypeError, match=f"^{named}: checkpoint= is the path of a file, not int"):
        begin(checkpoint=5)


def test_errors_about_an_item_without_a_name_name_the_call(tmp_path):
    with pytest.raises(TypeError, match=r"^pfor\(\): checkpoint= cannot name an item"):
        pfor(id, [threading.Lock()], checkpoint=tmp_path / "job")


def test_a_pfilter_names_itself():
    chosen = pfilter(abs, [1])
    assert repr(chosen) == "<pfilter 0 of 0 items drawn are finished>"
    with pytest.raises(PickleError, match=r"a pfilter\(\) cannot be sent"):
        chan(1).send(chosen)
    assert list(chosen) == [1]
