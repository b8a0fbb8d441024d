"""How the daemon comes up, what it says when it can't, and what it tells systemd."""
import signal
import socket

import pytest
from harness.broker import wait_settled
from harness.daemon import Fairstalk, base_config, merged
from harness.redis_server import RedisServer
from harness.waiting import eventually

from bench import tasks

PATIENCE = 30
CONFIG = 78
UNAVAILABLE = 69


@pytest.fixture
def ends(redis, app_env, tmp_path):
    """`ends(code, python={…})`: a daemon that is to end by itself with this code before it is ready; its log."""

    def start(code, env=None, **sections):
        config = merged(base_config(redis.url, app_env), sections)
        daemon = Fairstalk(tmp_path / "daemon", config, env)
        try:
            assert daemon.wait(PATIENCE) == code, daemon.log()
            assert daemon.notify.states("READY") == []
            checked = daemon.call("check")
            assert checked.returncode == code, checked.stderr
            return daemon.log(), checked.stderr
        finally:
            daemon.close()

    return start


def test_ready_once_and_after_all_workers(celery_app, fairstalk):
    """READY comes from the supervisor, once, when the last worker is ready; STATUS speaks of slots; STOPPING at the end."""
    daemon = fairstalk(workers={"processes": 3, "concurrency": 2})
    ready = [number for number in (1, 2, 3) if f"worker {number} is ready" in daemon.log()]
    assert ready == [1, 2, 3]
    daemon.notify.wait_for(lambda state: "0/6 slots busy" in state.get("STATUS", ""))
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    assert daemon.stop() == 0
    states = daemon.notify.states()
    assert daemon.notify.states("READY") == ["1"]
    assert daemon.notify.states("STOPPING") == ["1"]
    assert states.index({"READY": "1"}) < states.index({"STOPPING": "1"})
    assert {notification.pid for notification in daemon.notify.received} == {daemon.pid}


def test_watchdog(celery_app, fairstalk):
    """Pings come from the start and while it idles, as often as systemd asks for."""
    daemon = fairstalk(env={"WATCHDOG_USEC": "1000000"})
    pings = len(daemon.notify.states("WATCHDOG"))
    eventually(lambda: len(daemon.notify.states("WATCHDOG")) >= pings + 3)


def test_redis_down_at_start(celery_app, redis, fairstalk):
    """It waits, says for what, and is ready as soon as Redis is."""
    redis.stop()
    daemon = fairstalk(wait=False)
    daemon.notify.wait_for(lambda state: "refused" in state.get("STATUS", ""), PATIENCE)
    daemon.wait_log(rf"WARN .*Redis at 127\.0\.0\.1:{redis.port}: .*refused")
    checked = daemon.call("check")
    assert checked.returncode == UNAVAILABLE
    assert f"127.0.0.1:{redis.port}" in checked.stderr
    assert daemon.notify.states("READY") == []
    redis.start()
    daemon.wait_ready()
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3


def test_redis_down_at_start_and_given_up(redis, fairstalk):
    """A daemon that never reached Redis stops as any other."""
    redis.stop()
    daemon = fairstalk(wait=False)
    daemon.notify.wait_for(lambda state: "refused" in state.get("STATUS", ""), PATIENCE)
    assert daemon.stop() == 0


def test_redis_lost_while_a_task_runs(celery_app, tmp_path, app_env, fairstalk, ledger):
    """Redis restarts with its data: the running task's result is stored afterwards, and it ran once."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as kept:
        app_env |= {"CELERY_BROKER_URL": kept.url, "CELERY_RESULT_BACKEND": kept.url}
        daemon = fairstalk(broker={"url": kept.url}, python={"env": app_env})
        with celery_app.connection_for_write(kept.url) as connection:
            running = tasks.record.apply_async((1, 1, str(ledger)), {"seconds": 2}, connection=connection)
            waiting = tasks.record.apply_async((1, 2, str(ledger)), countdown=2, connection=connection)
        ledger.wait("start", 1)
        kept.stop()
        daemon.wait_log("Redis lost")
        ledger.wait("end", 1)
        kept.start()
        daemon.wait_log("Redis is back")
        with kept.client() as client:
            for task, n in ((running, 1), (waiting, 2)):
                key = f"celery-task-meta-{task.id}"
                result = eventually(lambda key=key: client.get(key), PATIENCE)
                assert f'"status": "SUCCESS", "result": {n}'.encode() in result
            wait_settled(client)
        assert ledger.numbers("start") == [1, 2]
        daemon.stop()


def test_redis_away_for_longer_than_a_lease(celery_app, redis, fairstalk, ledger):
    """All leases are over when it comes back, and nobody takes anybody for dead: every task has run once."""
    daemon = fairstalk(workers={"processes": 2, "concurrency": 2})
    workers = daemon.pids("worker")
    sent = [tasks.record.apply_async((1, n, str(ledger)), {"seconds": 9}) for n in range(4)]
    ledger.wait("start", 4)
    redis.process.send_signal(signal.SIGSTOP)
    try:
        ledger.wait("end", 4)  # 9 s, and a lease lasts 7
    finally:
        redis.process.send_signal(signal.SIGCONT)
    assert [task.get(timeout=PATIENCE) for task in sent] == [0, 1, 2, 3]
    assert all(len(pids) == 1 for pids in ledger.runs().values())
    assert daemon.pids("worker") == workers


def test_a_wrong_password(ends):
    """Waiting would not mend it. The password is shown nowhere."""
    with RedisServer("--requirepass", "right") as guarded:
        url = guarded.url.replace("redis://", "redis://:wr0ng@")
        for text in ends(CONFIG, broker={"url": url}):
            assert f"127.0.0.1:{guarded.port}" in text
            assert "[broker] url" in text
            assert "wr0ng" not in text


def test_a_password_file(fairstalk, tmp_path):
    """The password stands neither in the configuration nor in any command line."""
    password = tmp_path / "password"
    password.write_text("right\n")
    with RedisServer("--requirepass", "right") as guarded:
        daemon = fairstalk(
            broker={"url": guarded.url, "password_file": password},
            python=None,
            **{'tasks."echo"': {"command": ["/bin/cat"]}},
        )
        assert daemon.call("check").returncode == 0
        assert daemon.stop() == 0
    assert "right" not in daemon.log()


def test_a_missing_interpreter(ends):
    """Named, with the key it stands in."""
    for text in ends(CONFIG, python={"interpreter": "/nowhere/python"}):
        assert "/nowhere/python" in text
        assert "No such file" in text


def test_an_application_that_fails_at_import(ends, app_env, tmp_path):
    """The traceback is in the log, and `check` shows the same."""
    (tmp_path / "broken.py").write_text("import json\n\nraise RuntimeError('no licence for ' + json.__name__)\n")
    for text in ends(CONFIG, python={"app": "broken", "env": {**app_env, "PYTHONPATH": str(tmp_path)}}):
        assert "broken.py\", line 3" in text
        assert "RuntimeError: no licence for json" in text


@pytest.mark.parametrize(
    ("app", "says"),
    [("nobody_wrote_this", "No module named 'nobody_wrote_this'"), ("imgbackend.routing", "routing")],
    ids=["no such module", "no app in it"],
)
def test_an_unknown_application(ends, app, says):
    """No such module, or nothing in it that is a Celery app."""
    for text in ends(CONFIG, python={"app": app}):
        assert says in text


def test_an_unknown_key(ends):
    """With what was probably meant, and everything else that is wrong at once."""
    for text in ends(CONFIG, workers={"procesess": 4, "concurrency": 0}, quues={"count": 3}):
        assert "procesess" in text
        assert "workers.processes" in text or '"processes"' in text or "`processes`" in text
        assert "concurrency" in text
        assert "queues" in text


def test_no_configuration_file(ends, tmp_path, redis, app_env):
    """The file it looked for is named."""
    daemon = Fairstalk(tmp_path / "none", base_config(redis.url, app_env))
    daemon.wait_ready()
    daemon.config_file.unlink()
    for command in ("run", "check", "status"):
        done = daemon.call(command)
        assert done.returncode == CONFIG, (command, done)
        assert str(daemon.config_file) in done.stderr
    daemon.close()


def test_a_notify_socket_nobody_listens_on(celery_app, fairstalk, tmp_path):
    """systemd has gone away, or the variable was inherited by accident: it says so and works."""
    path = tmp_path / "gone"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as closed:
        closed.bind(str(path))
    daemon = fairstalk(wait=False, env={"NOTIFY_SOCKET": str(path)})
    daemon.wait_log("ready: 2 workers")
    assert tasks.add.delay(1, 2).get(timeout=PATIENCE) == 3
    daemon.wait_log(r"WARN .*NOTIFY_SOCKET")
    assert daemon.stop() == 0


def test_pause_and_resume(celery_app, client, fairstalk):
    """TSTP stops claiming and nothing else, CONT goes on."""
    daemon = fairstalk()
    daemon.signal(signal.SIGTSTP)
    daemon.notify.wait_for(lambda state: state.get("STATUS", "").startswith("paused"))
    waits = tasks.add.delay(1, 2)
    assert client.llen("queue_0") == 1
    daemon.signal(signal.SIGCONT)
    assert waits.get(timeout=PATIENCE) == 3
