"""The units: understood by systemd, closed, and the template the same as the unit."""
import re
import subprocess

import pytest
from harness import ROOT
from harness.daemon import binary

UNITS = ["fairstalk.service", "fairstalk@.service"]
# Tenths: systemd-analyze tells "exposure level 1.6".
MOST_EXPOSURE = 25


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(unit, tmp_path):
    text = (ROOT / "systemd" / unit).read_text()
    copy = tmp_path / unit
    copy.write_text(text.replace("/usr/bin/fairstalk", str(binary())))
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS)
def test_exposure(unit):
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager"]
    rated = subprocess.run([*command, ROOT / "systemd" / unit], capture_output=True, text=True)
    assert rated.returncode == 0 and "Overall exposure level" in rated.stdout, rated.stdout + rated.stderr


def settings(unit):
    lines = (ROOT / "systemd" / unit).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_template_differs_where_instances_have_to():
    template, plain = settings("fairstalk@.service"), settings("fairstalk.service")
    assert sorted(set(template) - set(plain)) == [
        "Description=fairstalk, workers for Celery tasks of %i",
        "Environment=HOME=%S/fairstalk-%i",
        "ExecStart=/usr/bin/fairstalk run --config /etc/fairstalk/%i.toml",
        "LoadCredential=redis-password:fairstalk-%i.redis-password",
        "ReadWritePaths=-/sys/fs/cgroup/system.slice/system-fairstalk.slice/%n",
        "RuntimeDirectory=fairstalk-%i",
        "StateDirectory=fairstalk-%i",
    ]
    keys = {line.split("=")[0] for line in set(plain) - set(template)}
    assert keys == {"Description", "ExecStart", "LoadCredential", "ReadWritePaths", "RuntimeDirectory", "StateDirectory"}


def test_the_stop_timeout_is_above_the_drain_timeout():
    drain = re.search(r'#drain_timeout = "(\d+)s"', (ROOT / "etc" / "fairstalk.toml").read_text())
    stop = next(line for line in settings("fairstalk.service") if line.startswith("TimeoutStopSec="))
    # The supervisor gives its workers five seconds more, and then kills.
    assert int(stop.removeprefix("TimeoutStopSec=").removesuffix("s")) > int(drain[1]) + 5
