"""pmap: wrong arguments are refused at the call, with words that name them."""

import pytest

from goproc import chan, pfor, pmap

pytestmark = pytest.mark.usefixtures("runtime2")


def square(x):
    return x * x


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: pmap(3, [1]), TypeError, "not callable"),
        (lambda: pmap(square), TypeError, "at least one iterable"),
        (lambda: pmap(square, 5), TypeError, "'int' object is not iterable"),
        (lambda: pmap(square, [1], None), TypeError, "iterable 2: 'NoneType'"),
        (lambda: pmap(square, [1], chunk=0), ValueError, "chunk= is at least 1"),
        (lambda: pmap(square, [1], chunk="big"), ValueError, "'auto'"),
        (lambda: pmap(square, [1], ahead=0), ValueError, "ahead= is at least 1"),
        (lambda: pmap(square, [1], workers=0), ValueError, "workers= is at least 1"),
        (lambda: pmap(square, [1], threads=-1), ValueError, "threads= is at least 1"),
        (lambda: pmap(square, [1], timeout=-1), ValueError, "timeout="),
        (lambda: pmap(square, [1], on_error="ignore"), ValueError, "on_error="),
        (lambda: pmap(square, [1], on_error=chan(1).rx), TypeError, "on_error= .* receive-only"),
        (lambda: pmap(square, [1], ordered=False, ahead=2, workers=4), ValueError, "ahead=2 lets 2 of 4"),
        (lambda: pmap(square, [1], ordered=False, ahead=1), ValueError, "ahead=1 lets 1 of 2"),
        (lambda: pmap(square, [1], init=3), TypeError, "init= is a function"),
        (lambda: pmap(square, [1], key="x"), TypeError, "key= is a function"),
        (lambda: pmap(square, [1], limit=5), TypeError, "limit= is a Limiter"),
        (lambda: pmap(square, [1], memory="lots"), ValueError, "memory="),
        (lambda: pmap(square, [1], recycle=0), ValueError, "recycle="),
        (lambda: pmap(square, [1], total=-1), ValueError, "total="),
        (lambda: pmap(square, [1], progress=int), TypeError, "tqdm"),
        (lambda: pmap(square, [1], id=str), ValueError, "checkpoint="),
        (lambda: pfor(square, [1], on_error="return"), ValueError, "pfor"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(call, error, text):
    with pytest.raises(error, match=text):
        call()
