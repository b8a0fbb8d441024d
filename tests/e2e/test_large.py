"""Large messages go another way to the runner than small ones, and into their lanes: nothing of them changes."""
import hashlib

from harness import PROJECT
from harness.broker import wait_settled

from imgbackend.routing import get_queue_for_user

USERS = (1, 2, 47)  # 47 shares the queue of 1
#: Bytes of an argument: beside each other the inbox, the socket's own buffer and what is larger than either, and than a look.
SIZES = (10, 9_000, 30_000, 200_000, 1_200_000)

APPLICATION = """
import hashlib, os, subprocess

from bench.tasks import append_line
from imgbackend.celery import app


@app.task(name="large.keep")
def keep(user_id, n, text, path):
    append_line(path, event="start", user=user_id, n=n, digest=hashlib.md5(text.encode()).hexdigest())
    return text


@app.task(name="large.environment")
def environment():
    child = subprocess.run(["/usr/bin/env"], capture_output=True, text=True, check=True)
    return [os.environ.get("GLIBC_TUNABLES"), "GLIBC_TUNABLES" in child.stdout]
"""


def application(app_env, tmp_path, **environment):
    """The configuration of an application with these tasks."""
    (tmp_path / "large.py").write_text(APPLICATION)
    return {"app": "large", "env": {**app_env, "PYTHONPATH": f"{tmp_path}:{PROJECT}", **environment}}


def test_large_messages_arrive_whole_and_in_order(celery_app, client, fairstalk, ledger, app_env, tmp_path):
    """Of each user, in the order in which they were sent, whatever their sizes; results are what was given."""
    digests, results = {}, []
    for n in range(20):
        for user in USERS:
            text = f"{user} {n} ü " + "x" * SIZES[(n * 7 + user) % len(SIZES)]
            digests[user, n] = hashlib.md5(text.encode()).hexdigest()
            sent = celery_app.send_task("large.keep", (user, n, text, str(ledger)), queue=get_queue_for_user(user))
            results.append((sent, text))
    python = application(app_env, tmp_path)
    fairstalk(python=python, workers={"processes": 1, "concurrency": 1}, tenancy={"parameter": "user_id"})
    ledger.wait("start", len(digests), 60)
    wait_settled(client)
    lines = ledger.lines("start")
    assert {(line["user"], line["n"]): line["digest"] for line in lines} == digests
    for user in USERS:
        assert ledger.numbers("start", user) == list(range(20))
    assert all(sent.get(timeout=30) == text for sent, text in results)


def test_tasks_are_not_told_how_memory_is_kept(celery_app, fairstalk, app_env, tmp_path):
    """What the daemon says to the C library of its runners is not in their environment, nor in that of what they start."""
    daemon = fairstalk(python=application(app_env, tmp_path))
    assert celery_app.send_task("large.environment").get(timeout=30) == [None, False]
    (zygote,) = [pid for pid, _, process in daemon.tree() if "zygote" in process]
    with open(f"/proc/{zygote}/environ", "rb") as environment:
        assert b"GLIBC_TUNABLES=glibc.malloc." in environment.read()


def test_what_the_operator_says_of_memory_counts(celery_app, fairstalk, app_env, tmp_path):
    """His variable stays as it is, for tasks as well."""
    own = "glibc.malloc.perturb=1"
    fairstalk(python=application(app_env, tmp_path, GLIBC_TUNABLES=own))
    assert celery_app.send_task("large.environment").get(timeout=30) == [own, True]
