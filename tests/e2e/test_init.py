"""`fairstalk init` on projects as people lay them out, and what it writes under `fairstalk check`."""
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from harness import PROJECT
from harness.daemon import binary, clean_environment
from harness.redis_server import RedisServer
from harness.tls import Authority, TlsServer

PATIENCE = 90
CONFIG = 78
#: The environment the tests run in; as VIRTUAL_ENV it is one that somebody has activated.
ACTIVE = sys.prefix


@pytest.fixture
def init(tmp_path):
    """`init(directory, *options, env=…)`: its exit code, its file and what it printed."""

    def run(directory, *options, active=ACTIVE, output=None, code=0, **env):
        output = output or tmp_path / "etc" / "fairstalk.toml"
        output.parent.mkdir(exist_ok=True)
        env = clean_environment(**env)
        env.pop("VIRTUAL_ENV", None)
        if active:
            env["VIRTUAL_ENV"] = active
        done = subprocess.run(
            [binary(), "init", directory, "--output", output, *options],
            env=env, capture_output=True, text=True, timeout=PATIENCE,
        )
        assert done.returncode == code, done
        done.file = output
        done.config = tomllib.loads(output.read_text()) if output.exists() and code == 0 else None
        return done

    return run


def check(file, env=None):
    """What `fairstalk check` says to a file, in an environment without anything of ours."""
    return subprocess.run(
        [binary(), "check", "--config", file], env=clean_environment(**(env or {})),
        capture_output=True, text=True, timeout=PATIENCE,
    )


def passes(file, tasks):
    """`check` is content and has found the application."""
    done = check(file)
    assert done.returncode == 0, done
    assert f"registers {tasks} tasks" in done.stdout
    return done.stdout


def write(root, **files):
    """Files below `root`; `__` in a name is a slash, and `INIT` is `__init__`."""
    for name, text in files.items():
        file = root / (name.replace("__", "/").replace("INIT", "__init__") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def link_environment(folder):
    """A virtual environment in this folder that has what that of the tests has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    own = next(folder.glob("lib/python*/site-packages"))
    theirs = next(Path(ACTIVE).glob("lib/python*/site-packages"))
    own.rmdir()
    own.symlink_to(theirs)
    return folder / "bin" / "python"


def test_the_example(init, redis, tmp_path):
    """Django, twenty numbered queues: everything is found, and the file is what `check` takes."""
    done = init(PROJECT, CELERY_BROKER_URL=redis.url)
    config = done.config
    assert config["broker"] == {"url": redis.url}
    assert config["queues"] == {"prefix": "queue_", "count": 20, "default": "queue_0"}
    assert config["python"] == {
        "app": "imgbackend",
        "directory": str(PROJECT),
        "interpreter": f"{ACTIVE}/bin/python",
        "env": {"DJANGO_SETTINGS_MODULE": "imgbackend.settings"},
    }
    assert config["tenancy"] == {}
    assert "may have decided about what stands here: CELERY_BROKER_URL." in done.file.read_text()
    assert '#parameter = "user_id"' in done.file.read_text()
    assert stat.S_IMODE(done.file.stat().st_mode) == 0o640
    assert os.listdir(done.file.parent) == ["fairstalk.toml"]
    for command in ("check", "systemctl enable --now fairstalk", "run", "journalctl -u fairstalk"):
        assert command in done.stdout
    assert "warning: queues" not in passes(done.file, 26)


def test_a_plain_module(init, redis, tmp_path):
    """One file with an application beside its environment; tasks and routes name queues, in all the ways Celery allows."""
    project = write(tmp_path / "shop", jobs=f"""
from celery import Celery
app = Celery("jobs", broker="{redis.url}", backend="{redis.url[:-1]}5")
app.conf.task_routes = ({{"jobs.mail": {{"queue": "mail"}}}}, ("jobs.report.*", "reports"))
app.conf.worker_concurrency = 6
app.conf.accept_content = ["json", "pickle"]
app.conf.broker_transport_options = {{"global_keyprefix": "shop:"}}
print("noise on standard output")

@app.task
def mail(account_id, text): pass

@app.task(queue="slow")
def report(account_id): pass
""")
    python = link_environment(project / ".venv")
    done = init(project, active=None)
    assert done.config["python"] == {"app": "jobs", "directory": str(project), "interpreter": str(python)}
    assert done.config["queues"] == {"names": ["celery", "mail", "reports", "slow"], "default": "celery"}
    assert done.config["broker"] == {"url": redis.url, "key_prefix": "shop:"}
    assert done.config["results"] == {"url": redis.url[:-1] + "5"}
    assert done.config["workers"] == {"processes": 2, "concurrency": 3}
    assert done.config["delivery"] == {"accept": ["json", "pickle"]}
    assert "account_id may say whose" in done.stdout
    assert not list(project.glob("__pycache__")), "it has only been looked at"
    passes(done.file, 2)


def test_django_below_src(init, redis, tmp_path):
    """manage.py and packages in src/, settings that are a package; its celery.py is preferred to another application."""
    project = tmp_path / "site"
    write(
        project / "src",
        manage='import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings.production")\n',
        shop__INIT="",
        shop__celery="""
from celery import Celery
celery = Celery("shop")
celery.config_from_object("django.conf:settings", namespace="CELERY")
celery.autodiscover_tasks()
""",
        shop__settings__INIT="",
        shop__settings__production=f"""
SECRET_KEY = "x"
INSTALLED_APPS = ["orders"]
CELERY_BROKER_URL = "{redis.url}"
CELERY_RESULT_BACKEND = "{redis.url}"
""",
        orders__INIT="",
        orders__tasks="from celery import shared_task\n\n@shared_task\ndef ship(tenant_id): pass\n",
    )
    write(project, legacy="from celery import Celery\nold = Celery('old')\n")
    done = init(project)
    assert done.config["python"]["app"] == "shop"
    assert done.config["python"]["directory"] == str(project / "src")
    assert done.config["python"]["env"] == {"DJANGO_SETTINGS_MODULE": "shop.settings.production"}
    assert "not taken: legacy" in done.stdout
    assert '# There is also "legacy"' in done.file.read_text()
    passes(done.file, 1)
    other = init(project, "--app", "legacy", "--force")
    assert (other.config["python"]["app"], other.config["python"]["directory"]) == ("legacy", str(project))


@pytest.mark.parametrize(
    ("package", "app"),
    [({"shop__worker": "APP"}, "shop.worker"), ({"shop__celery": "APP", "shop__INIT": "", "INIT": ""}, "shop")],
    ids=["packages without __init__", "one __init__ too many"],
)
def test_the_folder_of_manage(init, redis, tmp_path, package, app):
    """Only with the folder of manage.py on the path can it be imported, as Django projects are."""
    source = """
from celery import Celery
from shop import names
app = Celery(names.NAME)
app.config_from_object("django.conf:settings", namespace="CELERY")
"""
    project = write(
        tmp_path / "website",
        manage='import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n',
        shop__names="NAME = 'shop'\n",
        shop__settings=f"SECRET_KEY = 'x'\nINSTALLED_APPS = []\nCELERY_BROKER_URL = '{redis.url}'\n",
        **{name: text.replace("APP", source) for name, text in package.items()},
    )
    done = init(project)
    assert (done.config["python"]["app"], done.config["python"]["directory"]) == (app, str(project)), done.stdout
    passes(done.file, 0)


def test_the_default_queue_only(init, redis, tmp_path):
    """A package named by nothing but its application: one queue, `celery`, and what that leaves open is said."""
    project = write(
        tmp_path / "app", app__celery=f"from celery import Celery\napp = Celery('app', broker='{redis.url}')\n",
    )
    done = init(project)
    assert done.config["queues"] == {"names": ["celery"], "default": "celery"}
    assert (done.config["python"]["app"], done.config["python"]["directory"]) == ("app", str(project))
    assert "tenancy" not in done.config
    assert "Queues that only the producers name" in done.file.read_text()
    passes(done.file, 0)
    (project / "Procfile").write_text("web: gunicorn app\nworker: celery -A app worker -Q celery,images -c 4\n")
    assert init(project, "--force").config["queues"] == {"names": ["celery", "images"], "default": "celery"}


def test_a_password(init, tmp_path):
    """It goes into a file of its own that only its owner reads, and appears nowhere else."""
    with RedisServer("--requirepass", "s3cr%t") as guarded:
        url = guarded.url.replace("redis://", "redis://:s3cr%25t@")
        project = write(tmp_path / "app", jobs=f"from celery import Celery\napp = Celery(broker='{url}')\n")
        done = init(project)
        secret = done.file.parent / "redis-password"
        assert done.config["broker"] == {"url": guarded.url, "password_file": str(secret)}
        assert secret.read_text() == "s3cr%t\n"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        for text in (done.stdout, done.stderr, done.file.read_text()):
            assert "s3cr" not in text
        passes(done.file, 0)
        secret.write_text("of somebody else\n")
        done.file.unlink()
        refused = init(project, code=CONFIG)
        assert "redis-password is there already" in refused.stderr
        assert secret.read_text() == "of somebody else\n"
        assert not done.file.exists()


def test_a_broker_that_sentinels_know(init, tmp_path):
    """All of them, with the name of the primary; a password of theirs is to be filled in."""
    url = "sentinel://:s3cret@a:1/2;sentinel://:s3cret@b/2"
    project = write(tmp_path / "app", jobs=f"""
from celery import Celery
app = Celery(broker={url!r})
app.conf.broker_transport_options = dict(master_name="mymaster", sentinel_kwargs=dict(password="s3cret"))
""")
    done = init(project)
    assert done.config["broker"] == {
        "url": "sentinel://a:1/2;sentinel://b:26379/2",
        "password_file": str(done.file.parent / "redis-password"),
        "master_name": "mymaster",
    }
    assert "# FILL IN: sentinel_kwargs" in done.file.read_text()
    assert "[broker] sentinel_password_file: the application's" in done.stdout
    for text in (done.stdout, done.stderr, done.file.read_text()):
        assert "s3cret" not in text


@pytest.mark.parametrize("how", ["url", "setting", "unverified", "unknown"])
def test_a_broker_over_tls(init, tmp_path, how):
    """Taken over as kombu has it, by parameters of the URL or by broker_use_ssl; kombu verifies nothing unless told to."""
    authority = Authority(tmp_path / "authority")
    with TlsServer(authority, authority.sign("server", "DNS:localhost"), "--requirepass", "s3cret") as server:
        url, plain = (server.secured(":s3cret@", **options) for options in ({"ca_certs": authority.certificate}, {}))
        trusting = f"dict(ssl_cert_reqs=ssl.CERT_REQUIRED, ssl_ca_certs={str(authority.certificate)!r})"
        made = {
            "url": f"Celery(broker={url!r}, backend={url + '&ssl_cert_reqs=required'!r})",
            "setting": f"Celery(broker={plain.replace('rediss:', 'redis:')!r}, broker_use_ssl={trusting})",
            "unverified": f"Celery(broker={plain!r})",
            "unknown": f"Celery(broker={plain!r}, broker_use_ssl=dict(ssl_password='s3cret'))",
        }
        project = write(tmp_path / "app", jobs=f"import ssl\nfrom celery import Celery\napp = {made[how]}\n")
        done = init(project)
        for text in (done.stdout, done.stderr, done.file.read_text()):
            assert "s3cret" not in text
        if how == "unknown":
            assert done.config["broker"] == {} and "has a parameter that fairstalk does not know" in done.stdout
            return
        expected = {"cert_reqs": "none"} if how == "unverified" else {"ca_certs": authority.certificate}
        secret = str(done.file.parent / "redis-password")
        assert done.config["broker"] == {"url": server.secured(**expected), "password_file": secret}
        shown = passes(done.file, 0)
        assert ("anybody on the way can pose" in shown) == (how == "unverified")
        assert ("database 0 of the same Redis" in shown) == (how == "url"), shown


def test_an_application_that_does_not_load(init, redis, tmp_path):
    """What the files say is written, why it could not be loaded is said without any password, and what is left to do."""
    project = write(tmp_path / "app", jobs=f"""
from celery import Celery
app = Celery(broker="{redis.url}")
raise RuntimeError("can't reach postgres://u:s3cret@db/x")
""")
    done = init(project)
    assert "RuntimeError: can't reach postgres://…@db/x" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr + done.file.read_text()
    assert done.config["broker"] == {"url": redis.url}
    assert done.config["python"]["app"] == "jobs"
    assert "# FILL IN: [queues]" in done.file.read_text()
    assert "To fill in" in done.stdout


def test_nothing_is_found(init, tmp_path):
    """A folder without an application: a file to be filled in, which `check` refuses until it is."""
    (tmp_path / "empty").mkdir()
    done = init(tmp_path / "empty", active=None)
    assert "application  not found" in done.stdout
    text = done.file.read_text()
    assert "# FILL IN: [python] app" in text and "# FILL IN: [broker] url" in text
    assert check(done.file).returncode == CONFIG


def test_a_broker_fairstalk_does_not_speak_to(init, tmp_path):
    """It is said, not left out, and nothing wrong is written; Celery's own default is such a broker."""
    for url in ("amqp://guest:s3cret@h//", "redis+x://:s3cret@h/0"):
        project = write(tmp_path / "app", jobs=f"from celery import Celery\napp = Celery(broker='{url}')\n")
        done = init(project, "--force")
        assert done.config["broker"] == {}
        assert "[broker] url: that of the application" in done.stdout
        assert "s3cret" not in done.stdout + done.stderr + done.file.read_text()


def test_nothing_is_overwritten(init, redis, tmp_path):
    """A file that is there stays, byte for byte, unless it is said to be replaced; then it keeps its tighter mode."""
    project = write(tmp_path / "app", jobs=f"from celery import Celery\napp = Celery(broker='{redis.url}')\n")
    file = tmp_path / "etc" / "fairstalk.toml"
    file.parent.mkdir()
    file.write_text("mine")
    file.chmod(0o600)
    refused = init(project, code=CONFIG)
    assert f"{file} is there already" in refused.stderr and "--force" in refused.stderr
    assert file.read_text() == "mine"
    assert init(project, "--force").config["python"]["app"] == "jobs"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert init(tmp_path / "nowhere", "--force", code=CONFIG).stderr.startswith(f"fairstalk: {tmp_path}/nowhere can't be")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_the_application_is_never_loaded_as_root(init, redis, tmp_path):
    """Where root sets things up for another user, that user runs the application's code and can read what was written."""
    project = write(Path("/tmp") / f"fairstalk-init-{os.getpid()}", jobs=f"""
import os
from celery import Celery
app = Celery(broker="{redis.url}".replace("redis://", "redis://:uid-%d@" % os.getuid()))
""")
    try:
        nobody = 65534
        for path in (project, project / "jobs.py"):
            os.chown(path, nobody, nobody)
        # Its Python must be readable by everybody; Celery comes along by its path.
        packages = next(Path(ACTIVE).glob("lib/python*/site-packages"))
        copy = project / "packages"
        shutil.copytree(packages, copy, ignore=shutil.ignore_patterns("django", "PIL", "pip", "*.pyc"))
        done = init(project, "--interpreter", "/usr/bin/python3", active=None, PYTHONPATH=str(copy))
        secret = done.file.parent / "redis-password"
        assert secret.read_text() == f"uid-{nobody}\n", done.stdout
        assert secret.stat().st_uid in (nobody, service_uid())
        assert done.file.stat().st_gid != 0
    finally:
        shutil.rmtree(project)


def service_uid():
    """The unit's user, where the package is installed."""
    import pwd

    try:
        return pwd.getpwnam("fairstalk").pw_uid
    except KeyError:
        return None


def test_sentinels_over_tls(init, tmp_path):
    """What is not supported is said."""
    project = write(tmp_path / "app", jobs="""
from celery import Celery
app = Celery(broker="sentinel://a:1/2;sentinel://b/2")
app.conf.broker_transport_options = dict(master_name="mymaster", sentinel_kwargs=dict(ssl=True))
""")
    assert "TLS with Sentinel, which is not supported" in init(project).stdout
