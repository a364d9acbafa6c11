# SPDX-License-Identifier: GPL-2.0
"""Checks: what is expected, and what is said when it is not so. And waiting, which is a check with a time limit."""

import contextlib
import errno
import time


class Failure(Exception):
    """The system is not as it should be."""


def that(holds, what):
    """Fails with `what` unless `holds`."""
    if not holds:
        raise Failure(what)


def equal(got, wanted, what):
    """Fails unless `got` is `wanted`; `what` says of what."""
    if got != wanted:
        raise Failure(f"{what}: {got!r} instead of {wanted!r}")


def between(got, least, most, what):
    """Fails unless `got` lies between two bounds, both included."""
    if not least <= got <= most:
        raise Failure(f"{what}: {got!r} is not between {least!r} and {most!r}")


def name_of(number):
    """`EBUSY` for 16."""
    return errno.errorcode.get(number, str(number))


@contextlib.contextmanager
def refused(number, what):
    """Expects that the block fails with the errno `number`, or one of several."""
    numbers = number if isinstance(number, tuple) else (number,)
    try:
        yield
    except OSError as error:
        if error.errno in numbers:
            return
        wanted = " or ".join(name_of(one) for one in numbers)
        raise Failure(f"{what}: {name_of(error.errno)} instead of {wanted}") from error
    raise Failure(f"{what}: succeeded instead of failing with {' or '.join(name_of(one) for one in numbers)}")


@contextlib.contextmanager
def within(seconds, what):
    """Expects that the block takes no longer than that."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    if took > seconds:
        raise Failure(f"{what}: took {took:.1f} s, the limit is {seconds} s")


def until(predicate, seconds, what, nap=0.02):
    """Waits until `predicate()` is true, and gives what it gave. For files of /proc and /sys, which have no poll."""
    end = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= end
        answer = predicate()
        if answer:
            return answer
        if late:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(nap)


def stays(predicate, seconds, what, nap=0.2):
    """Fails if `predicate` does not hold any more at some moment of so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        that(predicate(), what)
        time.sleep(nap)
