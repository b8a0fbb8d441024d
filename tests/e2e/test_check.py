"""`fairstalk check` and the start of `run` before Redis servers of all kinds."""
import json
import os
import re
import signal
import socketserver
import subprocess
import threading

import pytest
from harness.daemon import Fairstalk, base_config, binary, clean_environment, merged, toml
from harness.redis_server import RedisServer

PATIENCE = 60
CONFIG = 78
UNAVAILABLE = 69

#: A task that needs no Python.
ECHO = {'tasks."echo"': {"command": ["/bin/cat"], "time_limit": "90s"}, "python": None}


@pytest.fixture
def check(app_env, tmp_path):
    """`check("--json", url=…, queues={…})`: exit code, standard output, standard error."""
    def run(*options, url, code=0, **sections):
        env = {**app_env, "CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
        config = merged(base_config(url, env), sections)
        file = tmp_path / "fairstalk.toml"
        file.write_text(toml(config))
        done = subprocess.run(
            [binary(), "check", "--config", file, *options],
            env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE,
        )
        assert done.returncode == code, done
        return done

    return run


@pytest.fixture
def findings(check):
    """`findings(url=…)`: the grades of all findings by their code, and the object they are in."""

    def run(*options, **arguments):
        report = json.loads(check("--json", *options, **{**ECHO, **arguments}).stdout)
        found = {finding["code"]: finding["grade"] for finding in report["findings"]}
        found.pop("root", None)  # who runs the tests is not the point
        return found, report

    return run


def test_what_would_be_run(check, redis):
    """Processes, slots, queues, names, application, interpreter, user and limits."""
    said = check(url=redis.url, workers={"name": "w%i", "drain_timeout": "90s"}).stdout
    for line in (
        r"Redis \S+ at 127\.0\.0\.1:\d+ answers",
        r'application "imgbackend" registers 26 tasks',
        "would run 2 workers with 2 slots each, 4 tasks at once, on 20 queues",
        r"  user         \w+",
        "  workers      w1, w2",
        "  queues       queue_0, queue_1, queue_2, …, queue_19; of tasks without a user: queue_0",
        r"  application  imgbackend in /\S+/examples/imgbackend",
        r"  interpreter  /\S+, Python 3\.\d+\.\d+, Celery 5\.\S+",
        "  results      database 0 of the same Redis",
        "  time limits  the longest: .* hard, .* soft",
        "  limits       90s to finish at a stop, 3 deliveries, messages of 64MiB",
    ):
        assert re.search(f"^{line}$", said, re.MULTILINE), (line, said)


def test_the_same_for_machines(check, redis):
    """One object with the same in it; a configuration that can't be used has the same form."""
    report = json.loads(check("--json", url=redis.url).stdout)
    assert report["exit"] == 0
    assert report["redis"]["mode"] == "standalone"
    assert report["application"]["tasks"] == 26
    assert report["application"]["results"] == {"backend": "RedisBackend", "in_step": True, "database": 0}
    assert report["plan"]["slots"] == 4
    assert len(report["plan"]["queues"]) == 20
    assert report["plan"]["limits"]["max_deliveries"] == 3
    refused = json.loads(check("--json", url=redis.url, code=CONFIG, workers={"concurrency": 0, "proceses": 1}).stdout)
    assert {finding["key"] for finding in refused["findings"]} == {"workers.concurrency", "workers.proceses"}
    assert refused.keys() == report.keys()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--appendonly", "yes", "--appendfsync", "always"], {"fsync-always": "note"}),
        (["--appendonly", "yes"], {"fsync-everysec": "note"}),
        (["--appendonly", "yes", "--appendfsync", "no"], {"fsync-no": "warning"}),
        ([], {"no-persistence": "warning"}),
        (["--save", "3600", "1"], {"snapshots-only": "warning"}),
        (
            ["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"],
            {"fsync-everysec": "note", "eviction": "warning"},
        ),
        (["--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"], {"fsync-everysec": "note", "eviction": "note"}),
        (["--appendonly", "yes", "--rename-command", "CONFIG", ""], {"fsync-unknown": "note", "unread": "note"}),
    ],
    ids=["always", "everysec", "no fsync", "nothing on disk", "snapshots", "evicts results", "would evict", "managed"],
)
def test_what_it_says_of_a_server(findings, options, expected):
    """Each kind has its findings. Warnings fail only a strict check; notes never do."""
    with RedisServer(*options) as server:
        found, _ = findings(url=server.url)
        assert found == expected
        strict = CONFIG if "warning" in expected.values() else 0
        assert findings("--strict", url=server.url, code=strict)[1]["exit"] == strict


def test_a_user_who_may_not_look(findings):
    """INFO and CONFIG are forbidden: what could not be read is said, and everything else works."""
    with RedisServer("--appendonly", "yes") as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-@dangerous", "-@admin")
            client.execute_command("ACL", "SETUSER", "half", "on", ">pw", "~*", "&*", "+@all", "-config")
        found, report = findings(url=server.url.replace("redis://", "redis://app:pw@"))
        assert found == {"persistence-unknown": "note", "unread": "note"}
        assert report["redis"]["version"]
        unread = next(finding["text"] for finding in report["findings"] if finding["code"] == "unread")
        assert "INFO (" in unread and "CONFIG GET (" in unread
        found, _ = findings(url=server.url.replace("redis://", "redis://half:pw@"))
        assert found == {"fsync-unknown": "note", "unread": "note"}


@pytest.mark.parametrize("rules", [["~*", "&*", "+@all", "-eval", "-evalsha"], ["~queue_*", "&*", "+@all"]], ids=["commands", "keys"])
def test_a_user_who_may_not_work(check, rules):
    """Scripts or keys are forbidden: an error with what is needed, before the first task shows it."""
    with RedisServer() as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "app", "on", ">s3cret", *rules)
        done = check(url=server.url.replace("redis://", "redis://app:s3cret@"), code=CONFIG, **ECHO)
        assert "Redis refuses what workers do" in done.stderr
        assert "+@scripting" in done.stderr
        assert "would run" not in done.stdout
        assert "s3cret" not in done.stdout + done.stderr


def test_everything_that_is_wrong_is_told_at_once(check, redis):
    """No Redis and no application: both are said, and the code is that of what has to be changed."""
    redis.stop()
    done = check(url=redis.url, code=CONFIG, python={"app": "nobody_wrote_this"})
    assert f"127.0.0.1:{redis.port}" in done.stderr
    assert "No module named 'nobody_wrote_this'" in done.stderr
    assert "would run" not in done.stdout
    assert check(url=redis.url, code=UNAVAILABLE, **ECHO).stdout == 'task "echo" runs /bin/cat\n' + root_note()


def root_note():
    """What is said in addition where the tests run as root."""
    return "" if os.getuid() else (
        "note: this was tried as root; the daemon should run as the user the application runs as, so try it as that "
        "user too: sudo -u USER fairstalk check\n"
    )


def test_a_wrong_password(check, findings):
    """78, and the password is nowhere."""
    with RedisServer("--requirepass", "right") as guarded:
        url = guarded.url.replace("redis://", "redis://:wr0ng@")
        done = check(url=url, code=CONFIG, **ECHO)
        assert "[broker] url" in done.stderr
        assert "wr0ng" not in done.stdout + done.stderr
        assert findings(url=url, code=CONFIG)[0] == {"redis": "error"}


def test_a_replica(findings, redis):
    """It takes no writes."""
    with RedisServer("--replicaof", "127.0.0.1", str(redis.port)) as replica:
        found, _ = findings(url=replica.url, code=UNAVAILABLE)
        assert found["replica"] == "error"


def test_a_cluster(findings):
    """Not supported, and said so."""
    with RedisServer("--cluster-enabled", "yes") as node:
        found, _ = findings(url=node.url, code=CONFIG)
        assert found["cluster"] == "error"


class Old(socketserver.StreamRequestHandler):
    """A server of before Redis 6: it has never heard of HELLO."""

    def handle(self):
        while line := self.rfile.readline():
            if line.startswith(b"$"):
                self.rfile.readline()
            elif line.startswith(b"*"):
                self.wfile.write(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n")


def test_a_server_that_is_too_old(check):
    """It is told which one is needed."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Old) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = check(url=f"redis://127.0.0.1:{server.server_address[1]}/0", code=CONFIG, **ECHO)
        server.shutdown()
    assert "needs Redis 6.2 or newer" in done.stderr


def test_results_and_limits_of_the_application(check, redis, tmp_path):
    """Results elsewhere and limits beyond the visibility timeout are notes; a timeout too short for claims is a warning."""
    (tmp_path / "odd.py").write_text(f"""
from celery import Celery
app = Celery("odd", broker="{redis.url}", backend="file://{tmp_path}")
app.conf.broker_transport_options = {{"visibility_timeout": 5}}

@app.task(time_limit=7200)
def long(): pass
""")
    # Celery itself would prefer the variable to the backend below.
    env = {"DJANGO_SETTINGS_MODULE": None, "CELERY_RESULT_BACKEND": None}
    python = {"app": "odd", "directory": tmp_path, "env": env}
    queues = {"names": ["celery"]}
    report = json.loads(check("--json", url=redis.url, python=python, queues=queues).stdout)
    found = {finding["code"]: finding for finding in report["findings"]}
    assert found["results-elsewhere"]["grade"] == "note"
    assert "FilesystemBackend" in found["results-elsewhere"]["text"]
    assert found["visibility-timeout"]["grade"] == "note"
    assert "7200 s" in found["visibility-timeout"]["text"]
    assert found["application"]["grade"] == "warning"
    assert "visibility_timeout is 5 s" in found["application"]["text"]
    assert report["application"]["hard_limit"] == {"seconds": 7200, "task": "odd.long"}


def test_the_daemon_warns_once(celery_app, app_env, tmp_path):
    """At its start, by one worker only, and not again when that worker is replaced."""
    with RedisServer("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        env = {**app_env, "CELERY_BROKER_URL": server.url, "CELERY_RESULT_BACKEND": server.url}
        daemon = Fairstalk(tmp_path / "daemon", base_config(server.url, env))
        try:
            daemon.wait_ready()
            daemon.wait_log("a restart of Redis loses every task")
            daemon.wait_log("maxmemory-policy is allkeys-lru")
            os.kill(daemon.pids("worker 1")[0], signal.SIGKILL)
            daemon.wait_log(r"worker 1 ended \(SIGKILL\)")
            daemon.wait_log(r"(?s)worker 1 is ready.*worker 1 is ready")
            assert daemon.stop() == 0
            assert daemon.log().count("loses every task") == 1
            assert daemon.log().count("maxmemory-policy is") == 1
        finally:
            daemon.close()
