"""Waiting for a condition, with a deadline."""
import time

PATIENCE = 15.0
LOOK_EVERY = 0.01


def eventually(predicate, timeout=PATIENCE, what=None):
    """Return the first true value of `predicate()`; fail once `timeout` seconds have passed.

    For conditions that nothing announces: the state of Redis, of /proc, of a file.
    `what` is said in the failure: a text, or a function that describes how things stand then.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            state = what() if callable(what) else what or getattr(predicate, "__name__", "condition")
            raise AssertionError(f"not within {timeout:g} s: {state}")
        time.sleep(LOOK_EVERY)
