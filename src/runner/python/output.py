"""What tasks write to standard output and error past Python's logging, as C libraries and programs do."""

import fcntl
import os
import termios
from time import monotonic, sleep

#: Something a task has left behind may write without end: then the end of the task is told nevertheless, after so many
#: seconds, and that of others without a wait until all is read again.
PATIENCE = 1.0
#: Between two looks, seconds.
NAP = 0.0001

#: No bytes, as FIONREAD (ioctl_pipe(2)) writes it.
NONE = bytes(4)


class Output:
    """A runner's end of the pipe, which the worker reads."""

    def __init__(self, pipe):
        os.set_inheritable(pipe, False)
        self._pipe = pipe
        self._unread = bytearray(NONE)
        self._patience = PATIENCE

    def wait_until_read(self):
        """Wait until the worker has read all of it: so what it finds there is always of the task that began last."""
        if self._is_read():  # which costs a third of a microsecond, in every task
            self._patience = PATIENCE
            return
        until = monotonic() + self._patience
        while not self._is_read():
            if monotonic() >= until:
                self._patience = 0.0
                return
            sleep(NAP)

    def _is_read(self):
        fcntl.ioctl(self._pipe, termios.FIONREAD, self._unread)
        return self._unread == NONE
