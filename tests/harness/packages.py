"""Debian packages of the program under test, made by the same script as `make deb`."""
import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

from . import ROOT
from .daemon import binary

CACHE = ROOT / "target" / "system" / "packages"
VERSION, HIGHER_VERSION = "0.1.0", "0.1.0+next"
PAGES = ROOT / "target" / "pages"
SOURCES = ("packaging", "systemd", "etc", "target/pages", "CHANGELOG.md", "LICENSE-MIT")


def build_package(version):
    """The package with this version. It is made again only when something that goes into it has changed."""
    assert PAGES.is_dir(), "no man pages: run `make pages` first"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made, stamp = CACHE / f"{version}.deb", CACHE / f"{version}.stamp"
        wanted = fingerprint()
        if not (made.exists() and stamp.exists() and stamp.read_text() == wanted):
            made.unlink(missing_ok=True)
            stripped = CACHE / "fairstalk"
            subprocess.run(["strip", "-o", stripped, binary()], check=True)
            done = subprocess.run(
                [ROOT / "packaging" / "deb.sh", stripped, PAGES],
                env={**os.environ, "DEB_VERSION": version, "DEB_OUTPUT": str(CACHE / "build")},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            Path(done.stdout.splitlines()[-1]).rename(made)
            stamp.write_text(wanted)
        return made


def fingerprint():
    """A checksum of everything a package is made of."""
    files = [binary()]
    for source in SOURCES:
        path = ROOT / source
        files += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file}\0".encode() + file.read_bytes())
    return total.hexdigest()
