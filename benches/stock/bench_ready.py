"""Loaded into the stock worker by `--include`: tells NOTIFY_SOCKET when it is ready, as fairstalk tells systemd.

The "ready" line of Celery's log is of level INFO and a worker runs with WARNING by default, so the log can't be asked.
"""
import os
import socket

from celery.signals import worker_ready


@worker_ready.connect
def notify(**_):
    """Runs in the parent, right after the line would have been logged."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
