"""`fairstalk migrate`: what it prints is loaded by `check`, taken by systemd, and runs what the old worker ran."""
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from harness import PROJECT, ROOT
from harness.daemon import Fairstalk, binary, clean_environment
from harness.processes import tree
from harness.redis_server import RedisServer

from bench import tasks
from imgbackend.routing import enqueue_task_to_user_queue

PATIENCE = 90
USAGE, CONFIG = 64, 78
#: Enough that some wait at each change, however slow the machine.
TASKS = 200
#: Celery of the tests, wherever its own script points to.
CELERY = str(Path(sys.executable).with_name("celery"))

#: The unit of Celery's documentation, "Daemonization".
DOCUMENTED = """
[Unit]
Description=Celery Service
After=network.target

[Service]
Type=forking
User=www-data
Group=www-data
EnvironmentFile={conf}
WorkingDirectory={directory}
ExecStart=/bin/sh -c '${{CELERY_BIN}} -A $CELERY_APP multi start $CELERYD_NODES \\
    --pidfile=${{CELERYD_PID_FILE}} --logfile=${{CELERYD_LOG_FILE}} \\
    --loglevel="${{CELERYD_LOG_LEVEL}}" $CELERYD_OPTS'
ExecStop=/bin/sh -c '${{CELERY_BIN}} multi stopwait $CELERYD_NODES'
ExecReload=/bin/sh -c '${{CELERY_BIN}} -A $CELERY_APP multi restart $CELERYD_NODES $CELERYD_OPTS'
Restart=always

[Install]
WantedBy=multi-user.target
"""
CONF = """
CELERYD_NODES="w1 w2"
CELERY_BIN="{celery}"
CELERY_APP="imgbackend"
CELERYD_OPTS="--time-limit=300 --concurrency=1"
CELERYD_PID_FILE="/var/run/celery/%n.pid"
CELERYD_LOG_FILE="/var/log/celery/%n%I.log"
CELERYD_LOG_LEVEL="INFO"
"""


def call(*arguments, code=0, text=None, cwd="/", **env):
    """`fairstalk migrate …` in an environment without anything of ours."""
    done = subprocess.run(
        [binary(), "migrate", *map(str, arguments)], env=clean_environment(**env), input=text, cwd=cwd,
        capture_output=True, text=True, timeout=PATIENCE,
    )
    assert done.returncode == code, done
    return done


@pytest.fixture
def migrate(tmp_path):
    """`migrate(*options, …)`: the configuration, which `check` has taken, and the drop-in, which systemd has."""

    def run(*options, command=(), env=None, **arguments):
        behind = ["--", *command] if command else []
        done = call(*options, *behind, **arguments)
        done.toml = call(*options, "--only", "config", *behind, **arguments).stdout
        done.drop_in = call(*options, "--only", "unit", *behind, **arguments).stdout
        assert done.toml in done.stdout and done.drop_in in done.stdout
        done.config = tomllib.loads(done.toml)
        file = tmp_path / "fairstalk.toml"
        file.write_text(done.toml)
        done.check = subprocess.run(
            [binary(), "check", "--config", file], env=clean_environment(**(env or {})),
            capture_output=True, text=True, timeout=PATIENCE,
        )
        verify(tmp_path, done.drop_in)
        return done

    return run


def verify(folder, drop_in):
    """The drop-in beside the unit as it is shipped."""
    unit = folder / "units" / "fairstalk.service"
    unit.with_suffix(".service.d").mkdir(parents=True, exist_ok=True)
    text = (ROOT / "systemd" / unit.name).read_text()
    unit.write_text(text.replace("/usr/bin/fairstalk", str(binary())))
    (unit.with_suffix(".service.d") / "migrated.conf").write_text(drop_in)
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, ""), drop_in


@pytest.fixture
def documented(tmp_path):
    """Celery's own example of a unit, with the application of the tests."""

    def write(*lines, conf=CONF):
        file = tmp_path / "conf"
        file.write_text(conf.format(celery=CELERY) + "\n".join(lines) + "\n")
        unit = tmp_path / "celery.service"
        unit.write_text(DOCUMENTED.format(conf=file, directory=PROJECT))
        return unit

    return write


def test_the_unit_of_celerys_documentation_runs_under_fairstalk(migrate, documented, redis, app_env, celery_app, tmp_path):
    """From its two files to a daemon that runs the application's tasks, with as many slots and the same names."""
    done = migrate(documented(*(f"{name}={value}" for name, value in app_env.items())), env=app_env)
    assert done.check.returncode == 0, done.check
    assert "would run 2 workers with 1 slots each" in done.check.stdout
    assert done.stderr == ""
    assert done.config["python"] == {
        "app": "imgbackend", "directory": str(PROJECT), "interpreter": str(Path(CELERY).with_name("python")),
        "env": {"DJANGO_SETTINGS_MODULE": "imgbackend.settings"}, "time_limit": "5m",
    }
    assert done.config["queues"] == {"prefix": "queue_", "count": 20, "default": "queue_0"}
    assert done.config["log"] == {"level": "info"}
    for line in (f"EnvironmentFile={tmp_path}/conf", "User=www-data", "Group=www-data", "#   Type=forking"):
        assert line in done.drop_in.splitlines()
    daemon = Fairstalk(tmp_path / "run", done.toml, app_env)
    try:
        daemon.wait_ready()
        assert {line.split("@")[0] for line in daemon.call("status").stdout.splitlines() if "@" in line} == {"w1", "w2"}
        assert celery_app.send_task("bench.tasks.add", (2, 3), queue="queue_3").get(timeout=PATIENCE) == 5
    finally:
        daemon.close()


def test_forth_and_back_without_a_gap(migrate, redis, app_env, celery_app, stock_worker, ledger, tmp_path):
    """As docs/migrate.md has it: the new one beside the old one, the old one stopped; and the other way round. Every task
    runs once, but for what the old one has begun just when it is stopped: before its pool has told it so, Celery puts
    the message back (of 24 stops of a stock worker with tasks of 20 ms, without fairstalk, five had one)."""
    sent = [
        enqueue_task_to_user_queue(tasks.record, n % 3, n % 3, n, str(ledger), seconds=0.1) for n in range(TASKS)
    ]
    command = [CELERY, "--workdir", str(PROJECT), "-A", "imgbackend", "worker", "-c", "2"]
    done = migrate(command=command, env=app_env, **app_env)
    assert done.check.returncode == 0, done.check
    with stock_worker("-c", "2") as old:
        ledger.wait("end", 5)
        daemon = Fairstalk(tmp_path / "run", done.toml, app_env)
        try:
            daemon.wait_ready()
            celerys = {process.pid for process in tree(old.popen.pid)}
            assert old.stop() == 0
            seen = len(ledger.lines("end"))
            ledger.wait("end", seen + 5)
            with stock_worker("-c", "2"):
                assert daemon.stop() == 0
                assert [task.get(timeout=PATIENCE) for task in sent] == list(range(TASKS))
        finally:
            daemon.close()
    assert sorted(set(ledger.numbers("start"))) == list(range(TASKS))
    again = [pids for pids in ledger.runs().values() if len(pids) > 1]
    assert all(pids[0] in celerys and len(pids) == 2 for pids in again), again
    assert len(again) <= 2, "no more than the old one had slots"


def test_a_command_line(migrate, redis, app_env):
    """Every common option, as it is typed; what is written counts before what the application says."""
    command = [
        sys.executable, "-m", "celery", "-A", "imgbackend", "--workdir", PROJECT, "-b",
        redis.url, "worker", "-Q", "queue_1,mail", "-c6", "-n", "img@%h", "-l", "DEBUG", "--max-tasks-per-child=100",
        "--max-memory-per-child", "300000", "--time-limit", "90.5", "--soft-time-limit", "60", "-Ofair",
        "--prefetch-multiplier=1", "--without-gossip", "--without-mingle", "--without-heartbeat", "--statedb=/var/run/x",
        "--uid", "www-data", "--umask", "027", "--pool=prefork",
    ]
    done = migrate(
        command=[str(word) for word in command], env=app_env, DJANGO_SETTINGS_MODULE="imgbackend.settings", CELERY_X="1")
    assert "may have decided about what stands here: CELERY_X." in done.toml
    assert done.check.returncode == 0, done.check
    assert done.config == {
        "broker": {"url": redis.url},
        "queues": {"names": ["queue_1", "mail"]},
        "workers": {"processes": 2, "concurrency": 3, "name": "img-%i@%h"},
        "python": {
            "app": "imgbackend", "directory": str(PROJECT), "interpreter": sys.executable,
            "env": {"CELERY_BROKER_URL": redis.url, "DJANGO_SETTINGS_MODULE": "imgbackend.settings"},
            "max_tasks_per_runner": 100, "max_memory_per_runner": "300000KiB", "time_limit": "90500ms",
            "soft_time_limit": "1m",
        },
        "tenancy": {},
        "log": {"level": "debug"},
    }
    for option in ("-O fair", "--prefetch-multiplier=1", "--without-gossip", "--without-mingle", "--without-heartbeat"):
        assert f"# * {option}: not needed: " in done.toml
    assert "User=www-data\nUMask=027\n" in done.drop_in
    assert done.stderr == ""


def test_what_a_worker_without_q_consumes(migrate, redis, tmp_path):
    """Its task_queues, not the queues of routes, which other workers may consume; -X takes some away."""
    (tmp_path / "jobs.py").write_text(f"""
from celery import Celery
from kombu import Queue
app = Celery("jobs", broker="{redis.url}")
app.conf.task_queues = [Queue("a"), Queue("b"), Queue("c")]
app.conf.task_routes = {{"jobs.pdf": {{"queue": "pdf"}}}}
""")
    command = [CELERY, "-A", "jobs", "worker", "-X", "b"]
    done = migrate(command=command, cwd=tmp_path)
    assert done.config["queues"] == {"names": ["a", "c"]}
    assert done.config["workers"] == {"processes": "auto", "concurrency": 1}
    assert done.check.returncode == 0, done.check


def test_the_file_of_the_init_script(migrate, redis, app_env, tmp_path):
    """/etc/default/celeryd, as Celery's documentation has it."""
    file = tmp_path / "celeryd"
    file.write_text(f"""
CELERYD_NODES="worker1"
ROOT={PROJECT}
CELERY_BIN="{CELERY}"
CELERY_APP="imgbackend"
CELERYD_CHDIR="$ROOT/"
CELERYD_OPTS="--time-limit=300 -c 4"
CELERYD_LOG_FILE="/var/log/celery/%n%I.log"
CELERYD_USER="www-data"
CELERYD_GROUP="www-data"
CELERY_CREATE_DIRS=1
export DJANGO_SETTINGS_MODULE="imgbackend.settings"
export CELERY_BROKER_URL="{redis.url}"
ulimit -n 4096
""")
    done = migrate(file, env=app_env)
    assert done.check.returncode == 0, done.check
    assert done.config["broker"] == {"url": redis.url}
    assert done.config["workers"] == {"processes": 2, "concurrency": 2, "name": "worker1-%i@%h"}
    assert (done.config["python"]["app"], done.config["python"]["directory"]) == ("imgbackend", f"{PROJECT}/")
    assert f'User=www-data\nGroup=www-data\nEnvironment="CELERY_BROKER_URL={redis.url}"' in done.drop_in
    assert done.stderr == "fairstalk: not taken over: ulimit -n 4096\n"


def test_nodes_that_differ_are_taken_one_by_one(migrate):
    """`celery multi` with options for single nodes."""
    command = [CELERY, "multi", "start", "mail", "pdf", "-A", "jobs", "-Q:mail", "mail", "-Q:pdf", "pdf", "-c", "2", "-c:pdf", "8"]
    refused = call("--no-load", "--", *command, code=USAGE)
    assert "the nodes mail@%h, pdf@%h of `celery multi` have different options" in refused.stderr
    done = migrate("--no-load", "--node", "pdf", "--instance", "pdf", command=command)
    assert done.config["queues"] == {"names": ["pdf"]}
    assert done.config["workers"] == {"processes": 2, "concurrency": 4, "name": "pdf-%i@%h"}
    assert "/etc/fairstalk/pdf.toml" in done.stdout and "/etc/systemd/system/fairstalk@pdf.service.d/" in done.stdout
    assert "there is no node x" in call("--no-load", "--node", "x", "--", *command, code=USAGE).stderr


def test_an_instance_of_a_template(migrate, tmp_path):
    """%i of the unit is the name of the instance, in what is read as in what is written."""
    unit = tmp_path / "celery@.service"
    unit.write_text(f"[Service]\nUser=www-data\nExecStart={CELERY} -A jobs worker -Q %i -n %i@%%h -c 1\n")
    assert "--instance" in call(unit, code=USAGE).stderr
    done = migrate("--no-load", "--instance", "pdf", unit)
    assert (done.config["queues"], done.config["workers"]["name"]) == ({"names": ["pdf"]}, "pdf@%h")
    # As systemctl cat prints it, with a drop-in behind.
    override = "\n# /etc/systemd/system/celery@.service.d/override.conf\n[Service]\nExecStart=\nExecStart="
    text = "# /etc/systemd/system/celery@.service\n" + unit.read_text() + override + f"{CELERY} -A jobs worker -Q %i,more\n"
    done = migrate("--no-load", "--instance", "a", "-", text=text)
    assert done.config["queues"] == {"names": ["a", "more"]}
    assert "from /etc/systemd/system/celery@.service. " in done.drop_in


def test_what_grows_and_what_is_told(migrate):
    """`--autoscale`, `-E` and the parts of a host's name have the same meaning."""
    done = migrate("--no-load", command=[CELERY, "-A", "jobs", "worker", "--autoscale=8,2", "-E", "-n", "big@%n.%d"])
    workers = done.config["workers"]
    assert (workers["processes"], workers["concurrency"]) == (2, {"min": 1, "max": 4})
    assert workers["events"] is True and workers["name"] == "big-%i@%n.%d"


def test_nothing_is_left_out_silently(migrate, tmp_path):
    """What is not understood, or nothing stands for, is in the text, and what needs a decision on standard error too."""
    unit = tmp_path / "celery.service"
    unit.write_text(f"""
[Service]
Environment="TOKEN=50%% \\"x\\""
ExecStart=/bin/bash -c 'source {PROJECT}/no-venv/bin/activate && nice -n 5 celery -A jobs worker --own-option 3 \\
    -P gevent -c 500 -B -s /var/schedule --purge $EXTRA -- worker.pool_restarts=1'
Frobnicate=yes
PrivateTmp=no
ProtectSystem=full
""")
    done = migrate("--no-load", unit)
    for line in (
        "# * --own-option 3: not understood; look what it does",
        "# * -- worker.pool_restarts=1: not understood; look what it does",
        "# * nice -n 5 …: not taken over",
        "# * --purge: no counterpart: nothing is deleted at a start; `celery purge` does it once",
        "# * -s /var/schedule: an option of `celery beat`, which is to run by itself now",
        "# FILL IN: $EXTRA: nothing that was read sets it",
    ):
        assert line in done.toml.splitlines(), line
    assert "# FILL IN: -P gevent: " in done.toml and "# FILL IN: -B: " in done.toml
    for line in ("#   Frobnicate=yes", "#   PrivateTmp=no", 'Environment="TOKEN=50%% \\"x\\""'):
        assert line in done.drop_in.splitlines(), line
    for what in ("--own-option 3 is", "nice -n 5", "-P gevent", "-B", "$EXTRA", "Frobnicate="):
        assert what in done.stderr, what
    assert done.config["python"]["interpreter"] == f"{PROJECT}/no-venv/bin/python"


def test_passwords_stay_where_they_are(migrate, documented, app_env, tmp_path):
    """They are in no line that is printed; the file names a credential of the unit instead, and says how to make it."""
    with RedisServer("--requirepass", "s3cr3t") as guarded:
        url = guarded.url.replace("redis://", "redis://:s3cr3t@")
        env = {**app_env, "CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
        credentials = tmp_path / "credentials"
        credentials.mkdir()
        (credentials / "redis-password").write_text("s3cr3t\n")
        unit = documented(*(f"{name}={value}" for name, value in env.items()))
        done = migrate(unit, env={**env, "CREDENTIALS_DIRECTORY": str(credentials)})
        assert done.check.returncode == 0, done.check
        assert done.config["broker"] == {"url": guarded.url, "password_file": "redis-password"}
        assert "/etc/credstore/fairstalk.redis-password" in done.stderr
        assert "/etc/credstore/fairstalk-a.redis-password" in call("--instance", "a", unit).stderr
        by_option = call("--no-load", "--", CELERY, "-A", "jobs", "-b", url, "worker", f"--frob={url}")
        assert "-b redis://…@" in by_option.stdout and "CELERY_BROKER_URL" in by_option.stdout
        for text in (done.stdout, done.stderr, by_option.stdout, by_option.stderr):
            assert "s3cr3t" not in text


def test_an_application_that_does_not_load(migrate, tmp_path):
    """Its command stands for it, and why it did not load is said."""
    (tmp_path / "jobs.py").write_text("raise RuntimeError('no settings')\n")
    done = migrate(command=[CELERY, "-A", "jobs", "worker", "-Q", "a", "-c", "2"], cwd=tmp_path)
    assert "RuntimeError: no settings" in done.stderr
    assert "# FILL IN: [broker] url: no broker was found" in done.toml
    assert "fairstalk: [broker] url: no broker was found" in done.stderr
    assert done.config["queues"] == {"names": ["a"]}


def test_every_option_of_the_installed_celery_is_known():
    """So that a new one is not taken for somebody's own."""
    from celery.bin.celery import celery
    from celery.bin.worker import worker

    unknown = []
    for options, behind in ((celery.params, ["worker"]), (worker.params, [])):
        for parameter in options:
            for name in parameter.opts:
                if name == "--version":
                    continue
                word = [name] if parameter.is_flag else [name, "1"]
                command = ["celery", *word, *behind] if behind else ["celery", "worker", *word]
                said = call("--no-load", "--", *command)
                assert ": " in said.stdout
                if "not understood" in said.stdout or "is not understood" in said.stderr:
                    unknown.append(name)
    assert not unknown


def test_errors(tmp_path):
    """Each says what to do, with the exit code of its kind."""
    assert "FILE" in call(code=USAGE).stderr
    assert "can't read" in call("/nowhere/celery.service", code=CONFIG).stderr
    beat = tmp_path / "beat.service"
    assert "fairstalk: -Q: has no value" in call("--no-load", "--", "celery", "worker", "-Q").stderr
    beat.write_text(f"[Service]\nWorkingDirectory=%h/x\nEnvironmentFile=/nowhere\nEnvironmentFile=-/nowhere\nExecStart={CELERY} worker\n")
    said = call("--no-load", beat).stderr
    assert "WorkingDirectory=%h/x" in said and said.count("/nowhere") == 1
    beat.write_text(f"[Service]\nExecStart={CELERY} -A jobs beat\n")
    assert f"{beat} starts no `celery worker`" in call(beat, code=CONFIG).stderr
    assert "this command starts no" in call("--", "gunicorn", "jobs", code=CONFIG).stderr
    assert "letters" in call("--instance", "a/b", "--", "celery", "worker", code=USAGE).stderr
    (tmp_path / "empty").write_text("A=1\n")
    assert "starts no" in call(tmp_path / "empty", code=CONFIG).stderr
