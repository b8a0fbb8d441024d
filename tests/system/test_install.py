"""From an empty machine to a running daemon and back."""
from harness.installation import UNIT, Installation

RUNS = "active"

ACCOUNTS = {"passwd", "group", "shadow", "gshadow"}


def owned(container):
    """Every file of the container but what the system itself writes down: logs, databases of packages and of users."""
    trees = ["/etc", "/home", "/lib", "/opt", "/root", "/srv", "/usr", "/var"]
    ours = ["/var/log", "/var/cache", "/var/lib/dpkg", "/var/lib/redis", "/var/lib/apt", "/var/tmp"]
    prune = " -o ".join(f"-path {path}" for path in ours)
    listed = container.run("sh", "-c", f"find {' '.join(trees)} '(' {prune} ')' -prune -o -print").stdout
    return {path for path in listed.splitlines() if path.rpartition("/")[2].rstrip("-") not in ACCOUNTS}


def test_from_install_to_purge(machine, package):
    """The steps of the README, then remove and purge: nothing is left but the user."""
    for directory in ("/srv/imgbackend", "/srv/calls.py", "/srv/fairstalk.deb"):
        machine.run("touch", directory)
    before = owned(machine)
    machine.run("rm", "-rf", "/srv/imgbackend", "/srv/calls.py")
    service = Installation(machine, package)
    assert machine.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip() == "disabled"
    assert service.active() == "inactive"
    assert machine.run("stat", "-c", "%a %U:%G", "/etc/fairstalk/fairstalk.toml").stdout.strip() == "640 root:fairstalk"

    service.configure()
    checked = machine.run("fairstalk", "check").stdout
    assert 'application "imgbackend" registers' in checked and "2 workers with 2 slots each" in checked
    machine.run("systemctl", "enable", "--now", UNIT)
    assert service.active() == RUNS
    ids = [service.call("send", "add", 2, 3), service.call("send", "fail", "on purpose")]
    assert service.call("results", ids) == [5, "ValueError"]

    machine.run("apt-get", "remove", "--yes", "fairstalk")
    assert service.active() != RUNS
    assert machine.processes("fairstalk") == []
    assert machine.path("/etc/fairstalk/fairstalk.toml").exists()
    assert not machine.path("/usr/bin/fairstalk").exists()
    machine.run("apt-get", "purge", "--yes", "fairstalk")
    assert machine.properties(UNIT, "LoadState") == {"LoadState": "not-found"}
    machine.run("find", "/srv/imgbackend", "-mindepth", "1", "-delete")
    assert owned(machine) == before
    # The user stays: files may be his, and his number must not go to somebody else.
    machine.run("getent", "passwd", "fairstalk")


def test_django_works_in_the_sandbox(service):
    """The example's own tasks: database, images on disk, a group with its result."""
    manage = ["/srv/venv/bin/python", "/srv/imgbackend/manage.py", "migrate"]
    environment = "DJANGO_SETTINGS_MODULE=imgbackend.settings IMGBACKEND_DATA=/var/lib/fairstalk".split()
    service.start()
    service.container.run("runuser", "-u", "fairstalk", "--", "env", *environment, *manage)
    paths = service.call("make_images", 42, 4)
    assert len(paths) == 4
    assert all(service.container.path(f"/var/lib/fairstalk/media/{path}").stat().st_size for path in paths)
