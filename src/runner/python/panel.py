"""Commands of Celery's remote control that only the application can answer, each in a process of its own.

Not in the zygote, because what a command of the application does must not delay runners, nor be in the image they are
forked from. Not in a runner, because all of them may be busy for hours. So such a command sees the application as it was
imported, and what it changes is gone with its process.
"""

import json
import os
import signal
import socket
import traceback

from celery.utils.collections import AttributeDict
from celery.worker import control
from kombu.utils import json as kombu_json

from .process import set_title

#: Seconds after which a command that has not ended is ended.
PATIENCE = 60


def commands():
    """Names of the commands that are not Celery's own, or that replace one of Celery's."""
    return sorted(name for name, command in control.Panel.data.items()
                  if getattr(command, "__module__", None) != control.__name__)


def answers(app, node):
    """What Celery says to the questions that monitors ask all the time, by command; it stays as it is.

    Only Celery's own code runs for it, so the zygote can do it.
    """
    found = {}
    for method in {"conf", "registered"}.difference(commands()):
        try:
            found[method] = called(app, node, method, {})
        except Exception:
            pass  # whoever asks is told
    return found


def start(app, fd):
    """Entry of a freshly forked process; never returns. `fd` is a socket: a question comes, the answer goes."""
    status = 1
    try:
        signal.alarm(PATIENCE)
        sock = socket.socket(fileno=fd)
        with sock.makefile("rb") as lines:
            question = json.loads(lines.readline())
        set_title("fairstalk: {} for {}".format(question["method"], question["node"]))
        sock.sendall(json.dumps(answer(app, question)).encode())
        # The kernel takes its time to clear away a process before it closes what that had open.
        sock.shutdown(socket.SHUT_WR)
        status = 0
    except BrokenPipeError:
        pass  # nobody waits any more
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def answer(app, question):
    """What Celery's worker would answer (`kombu.pidbox.Node.dispatch`)."""
    try:
        return {"value": called(app, **question)}
    except Exception as exc:
        traceback.print_exc()
        return {"error": repr(exc)}


def called(app, node, method, arguments):
    """What a command returns; `consumer` is missing, as there is none."""
    state = AttributeDict(app=app, hostname=node, consumer=None, tset=set)
    value = control.Panel.data[method](state, **arguments)
    # Numbers that only Python's JSON has can't be passed on.
    return json.loads(kombu_json.dumps(value), parse_constant=str)
