"""Sends what the application logs to the worker, which adds the task's fields and writes it to the journal."""

import json
import logging
import sys

from .frames import LOG


#: Celery's lines about tasks that failed or were lost: the worker writes one of its own for each.
WRITTEN_BY_WORKER = ("celery.app.trace", "celery.worker.request")


class FrameHandler(logging.Handler):
    """Logging handler whose output is frames."""

    def __init__(self, channel):
        super().__init__()
        self._channel = channel

    def emit(self, record):
        if record.name in WRITTEN_BY_WORKER and record.levelno >= logging.ERROR:
            return
        try:
            line = {"level": record.levelno, "logger": record.name, "text": self.format(record)}
            self._channel.send(LOG, json.dumps(line).encode())
        except OSError:
            pass  # the worker is gone, and this process with it


def attach(channel):
    """Put a frame handler in the place of every handler that writes to standard error.

    Handlers the application made for files or services stay; output of the ones that write to the terminal
    would reach the worker too, but as plain lines without level and logger.
    """
    handler = FrameHandler(channel)
    handler.setFormatter(logging.Formatter("%(message)s"))
    loggers = [logging.getLogger()]
    loggers += [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    streams = (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
    for logger in loggers:
        for old in list(logger.handlers):
            if type(old) is logging.StreamHandler and old.stream in streams:
                logger.removeHandler(old)
                logger.addHandler(handler)
