"""The package, built of the program under test. How it behaves once installed is shown in a booted system."""
import os
import subprocess
from pathlib import Path

import pytest
from harness import ROOT
from harness.daemon import binary


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The folder with the man pages and completions, written of today's sources."""
    folder = tmp_path_factory.mktemp("pages")
    write = ["cargo", "run", "--locked", "--quiet", "--example", "pages", "--", folder]
    subprocess.run(write, cwd=ROOT, check=True, timeout=600)
    return folder


@pytest.fixture(scope="session")
def build(pages, tmp_path_factory):
    """`build(DEB_VERSION="1.2")` makes a package with these variables; returns its path."""

    def package(**variables):
        output = tmp_path_factory.mktemp("deb")
        environment = {**os.environ, "DEB_OUTPUT": str(output), **variables}
        made = subprocess.run([ROOT / "packaging" / "deb.sh", binary(), pages], env=environment,
                              capture_output=True, text=True, timeout=300)
        assert made.returncode == 0, made.stderr
        return Path(made.stdout.strip())

    return package


@pytest.fixture(scope="session")
def deb(build):
    """The package as `make deb` names it."""
    return build()


@pytest.fixture(scope="session")
def unpacked(deb, tmp_path_factory):
    """What is in it, and under DEBIAN what controls it."""
    folder = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg-deb", "--raw-extract", deb, folder], check=True)
    return folder
