"""The harness itself, with a stand-in for the daemon: what it promises to notice, it notices."""
import os
import signal
import stat
import sys
import textwrap

import pytest
from harness.daemon import Fairstalk, toml
from harness.processes import MARK
from harness.waiting import eventually

STAND_IN = """\
    #!{python}
    import os, signal, socket, subprocess, sys, time
    assert sys.argv[1:3] == ["run", "--config"] and os.path.exists(sys.argv[3])
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(os.environ["NOTIFY_SOCKET"])
    child = subprocess.Popen(["sleep", "1000"], start_new_session={leave_session}, env={environment})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
    print("up and running", file=sys.stderr, flush=True)
    try:
        sender.send(b"READY=1\\nSTATUS=ready 1/1")
        while True:
            time.sleep(1)
    finally:
        if {reap}:
            child.kill()
            child.wait()
"""


@pytest.fixture
def stand_in(tmp_path):
    """Factory of running stand-ins; each has one child, which it reaps or leaves behind."""
    started = []

    def start(reap=True, code=0, leave_session=False, environment="None"):
        program = tmp_path / "stand-in"
        text = textwrap.dedent(STAND_IN).format(
            python=sys.executable, reap=reap, code=code, leave_session=leave_session, environment=environment
        )
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        daemon = Fairstalk(tmp_path / "run", {"workers": {"processes": 1}}, program=program)
        started.append(daemon)
        return daemon.wait_ready()

    yield start
    for daemon in started:
        daemon.clear_away()
        daemon.notify.close()


def test_a_good_daemon(stand_in):
    """Ready, described, stopped, with nothing left."""
    daemon = stand_in(code=75)
    assert daemon.notify.wait_for(lambda state: "STATUS" in state)["STATUS"] == "ready 1/1"
    assert {sender.pid for sender in daemon.notify.received} == {daemon.pid}
    assert daemon.wait_log(r"^up and (\w+)$").group(1) == "running"
    (own, _, _), (_, parent, command) = daemon.tree()
    assert (own, parent, command) == (daemon.pid, daemon.pid, "sleep 1000")
    assert daemon.stop() == 75
    daemon.close()


@pytest.mark.parametrize(
    "way", [{}, {"leave_session": True}, {"environment": "{}"}], ids=["plain", "own session", "empty environment"]
)
def test_an_orphan_is_noticed(stand_in, way):
    """An orphan is found by its session or by the mark in its environment, reported, and killed."""
    daemon = stand_in(reap=False, **way)
    with pytest.raises(AssertionError, match="processes left behind.*sleep 1000"):
        daemon.close()
    assert daemon.left() == []


def test_a_killed_daemon(stand_in):
    """SIGKILL reaches the supervisor only: its child is what the test is about."""
    daemon = stand_in()
    assert daemon.kill() == -signal.SIGKILL
    (orphan,) = daemon.left()
    assert orphan.cmdline == "sleep 1000"


def test_a_daemon_that_ends_early_is_not_waited_for(tmp_path):
    """The log is in the failure."""
    daemon = Fairstalk(tmp_path, "", program="/bin/false")
    with pytest.raises(AssertionError, match="exit code 1, before READY=1"):
        daemon.wait_ready()
    daemon.close()


def test_redis_can_go_away_and_come_back(redis):
    """The same addresses, and empty."""
    with redis.client() as client:
        client.set("key", "value")
        redis.stop()
        redis.start()
        assert client.get("key") is None


def test_the_configuration_is_toml():
    """Strings are quoted, deeper tables are inline."""
    text = toml({"python": {"app": 'a"b', "env": {"A": "1"}, "n": 2, "on": True}, 'tasks."x.y"': {"command": ["/bin/x"]}})
    assert text.splitlines() == [
        "[python]",
        '"app" = "a\\"b"',
        '"env" = { "A" = "1" }',
        '"n" = 2',
        '"on" = true',
        '[tasks."x.y"]',
        '"command" = ["/bin/x"]',
    ]


def test_the_harness_leaves_no_mark_on_us():
    """Else each process of the test run would count as left behind."""
    assert MARK not in os.environ
    with pytest.raises(AssertionError, match="not within 0 s: a miracle"):
        eventually(lambda: False, 0, "a miracle")
