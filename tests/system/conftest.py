"""Fixtures of the system tests: containers with systemd, and in them the package and the example application."""
import os
import subprocess

import pytest
from harness import ROOT
from harness.container import Container, why_not
from harness.installation import Installation
from harness.packages import HIGHER_VERSION, VERSION, build_package

OBSTACLE = why_not()


def pytest_runtest_setup(item):
    """Nothing can be tried where no container can be booted. FAIRSTALK_SYSTEM_TESTS=required makes that a failure."""
    if OBSTACLE:
        refuse = pytest.fail if os.environ.get("FAIRSTALK_SYSTEM_TESTS") == "required" else pytest.skip
        refuse(f"no container can be booted: {OBSTACLE}")


def pytest_terminal_summary(terminalreporter):
    """Say it so that nobody takes skipped tests for passed ones."""
    if OBSTACLE:
        terminalreporter.section("SYSTEM TESTS DID NOT RUN", red=True, bold=True)
        terminalreporter.line(f"Package, systemd and journal are untested here: {OBSTACLE}.")


@pytest.fixture(scope="session")
def base():
    """The root that containers are made of."""
    for script in ("setup.sh", "system/setup.sh"):
        subprocess.run(["sh", ROOT / "tests" / script], check=True)


@pytest.fixture(scope="session")
def package():
    """The Debian package."""
    return build_package(VERSION)


@pytest.fixture(scope="session")
def higher_package():
    """The same program in a package with a higher version."""
    return build_package(HIGHER_VERSION)


@pytest.fixture
def machine(base, tmp_path):
    """A booted Debian with nothing of ours."""
    with Container(tmp_path) as container:
        yield container


@pytest.fixture(scope="module")
def installation(base, package, tmp_path_factory):
    """A Debian with package and application, shared by the tests of a module; see `service`."""
    with Container(tmp_path_factory.mktemp("container")) as container:
        yield Installation(container, package)


@pytest.fixture
def service(installation, request):
    """The installation, set back to a stopped daemon. A test that fails shows the daemon's journal."""
    installation.reset()
    yield installation
    if getattr(request.node, "failed", False):
        print(installation.container.run("journalctl", "--no-pager", "-u", "fairstalk*", "-n", "200").stdout)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Lets fixtures know whether their test has failed."""
    report = yield
    item.failed = getattr(item, "failed", False) or report.failed
    return report
