"""The kin of pmap: pfilter, preduce, pfor, psort, pmap_array."""

import operator
import os
import random
import tempfile

import pytest

from goproc import Failure, chan, pfilter, pfor, pmap_array, preduce, proc, psort

pytestmark = pytest.mark.usefixtures("runtime2")


def test_pfilter_yields_the_items_that_are_chosen_in_order():
    assert list(pfilter(lambda x: x % 3 == 0, range(1000))) == list(range(0, 1000, 3))
    assert list(pfilter(None.__ne__, [])) == []


def test_pfilter_takes_the_options_of_pmap():
    found = list(pfilter(lambda x: 6 // x > 2, range(4), on_error="return"))
    assert isinstance(found[0], Failure) and found[0].item == 0
    assert found[1:] == [1, 2]
    assert sorted(pfilter(bool, [0, 1, 2, 0, 3], ordered=False)) == [1, 2, 3]
    with pytest.raises(TypeError, match="pfilter"):
        pfilter(3, [1])


def test_pfor_calls_for_the_effect():
    calls = chan(100)
    assert pfor(lambda a, b: calls.send((a, b, proc())), [1, 2], [3, 4]) is None
    assert sorted(c[:2] for c in calls.recv_many(100)) == [(1, 3), (2, 4)]
    with pytest.raises(ValueError, match="item"):
        pfor(lambda x: (_ for _ in ()).throw(ValueError("item")), [1])


def test_preduce_keeps_the_order():
    text = [str(x) for x in range(5000)]
    assert preduce(operator.add, text) == "".join(text)
    assert preduce(operator.add, iter(range(10_000))) == sum(range(10_000))


def test_preduce_with_and_without_initial():
    assert preduce(operator.add, [], initial=5) == 5
    assert preduce(operator.add, ["b", "c"], initial="a") == "abc"
    assert preduce(operator.add, [7]) == 7
    with pytest.raises(TypeError, match="empty iterable"):
        preduce(operator.add, [])


def test_preduce_runs_its_function_on_workers():
    def f(a, b):
        return a | b

    def where(a, b):
        return {proc()} | (a if isinstance(a, set) else set()) | (b if isinstance(b, set) else set())

    assert preduce(f, [{x} for x in range(100)]) == set(range(100))
    assert 0 not in preduce(where, range(100))


@pytest.mark.parametrize("memory", [None, "1M"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("key", [None, lambda x: x % 100])
def test_psort_is_a_stable_sort(memory, reverse, key):
    items = [random.Random(3).randrange(10_000) + i % 7 for i in range(60_000)]
    found = psort(iter(items), key=key, reverse=reverse, memory=memory)
    assert iter(found) is found
    assert list(found) == sorted(items, key=key, reverse=reverse)


def test_psort_merges_many_files(monkeypatch):
    from goproc._data import sort

    monkeypatch.setattr(sort, "_LEAST_RUN", 1)
    monkeypatch.setattr(sort, "_AT_ONCE", 3)
    monkeypatch.setattr(sort, "_LOOK", 10)
    items = [(random.random(), i) for i in range(400)]
    assert list(psort(items, key=lambda p: round(p[0], 1), memory=1)) == sorted(
        items, key=lambda p: round(p[0], 1)
    )


def test_psort_is_lazy_and_leaves_no_file(tmp_path):
    drawn = []

    def items():
        for i in range(1000):
            drawn.append(i)
            yield -i

    found = psort(items(), folder=tmp_path)
    assert not drawn
    assert next(found) == -999
    assert os.listdir(tmp_path) == []
    found.close()
    assert list(psort([])) == []
    with pytest.raises(TypeError):
        list(psort([1, "a"], folder=tmp_path))
    assert os.listdir(tmp_path) == []


def test_psort_sorts_objects_of_the_script():
    class Word:
        def __init__(self, text):
            self.text = text

        def __lt__(self, other):
            return self.text < other.text

    words = [Word(t) for t in ("pear", "apple", "fig")]
    assert [w.text for w in psort(words)] == ["apple", "fig", "pear"]
    assert tempfile.gettempdir()


def test_pmap_array_writes_into_one_array():
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")
    a = numpy.arange(12.0).reshape(3, 4)
    assert (pmap_array(numpy.sum, a) == a.sum(axis=1)).all()
    assert (pmap_array(numpy.sum, a, axis=1) == a.sum(axis=0)).all()
    assert (pmap_array(lambda row: row * 2, a) == a * 2).all()
    assert pmap_array(numpy.sum, a[:0]).shape == (0,)
    with pytest.raises(ValueError, match="axis=2"):
        pmap_array(numpy.sum, a, axis=2)


@pytest.mark.parametrize("other", [lambda row: row[0], lambda row: row[:1], lambda row: row.repeat(2)])
def test_pmap_array_refuses_a_result_of_another_shape(other):
    """NumPy would spread a number, or an array of one number, over the whole row."""
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")
    rows = numpy.arange(12.0).reshape(6, 2)
    with pytest.raises(
        ValueError, match=r"result for slice 3 has the shape \(.*\), that for slice 0 has \(2,\)"
    ):
        pmap_array(lambda row: other(row) if row[0] == 6 else row, rows)


def test_pmap_array_names_the_slice_that_failed(capfd):
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")

    def total(row):
        if row[0] == 6:
            raise ValueError("six")
        return row.sum()

    with pytest.raises(ValueError, match="six") as caught:
        pmap_array(total, numpy.arange(12.0).reshape(6, 2))
    assert "item 3: 3" in caught.value.__notes__
    pmap_array(numpy.sum, numpy.arange(12.0).reshape(6, 2), progress="rows")
    assert capfd.readouterr().err == "rows, 6/6\n"


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match=r"^pfilter\(\) got an unexpected keyword argument 'chunks'$"):
        pfilter(str, [1], chunks=3)
