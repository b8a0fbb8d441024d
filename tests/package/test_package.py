"""What is in the .deb, and that the same input makes the same bytes."""
import re
import shutil
import subprocess

import pytest
from harness import ROOT

FILES = {
    "./etc/fairstalk/": "drwxr-x---",
    "./etc/fairstalk/fairstalk.toml": "-rw-r-----",
    "./lib/systemd/system/fairstalk.service": "-rw-r--r--",
    "./lib/systemd/system/fairstalk@.service": "-rw-r--r--",
    "./usr/bin/fairstalk": "-rwxr-xr-x",
    "./usr/lib/sysusers.d/fairstalk.conf": "-rw-r--r--",
    "./usr/share/bash-completion/completions/fairstalk": "-rw-r--r--",
    "./usr/share/doc/fairstalk/changelog.gz": "-rw-r--r--",
    "./usr/share/doc/fairstalk/copyright": "-rw-r--r--",
    **{f"./usr/share/doc/fairstalk/docs/{path.name}": "-rw-r--r--"
       for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".svg")},
    "./usr/share/fish/vendor_completions.d/fairstalk.fish": "-rw-r--r--",
    "./usr/share/lintian/overrides/fairstalk": "-rw-r--r--",
    "./usr/share/man/man1/fairstalk.1.gz": "-rw-r--r--",
    "./usr/share/man/man5/fairstalk.toml.5.gz": "-rw-r--r--",
    "./usr/share/man/man8/fairstalk.8.gz": "-rw-r--r--",
    "./usr/share/zsh/vendor-completions/_fairstalk": "-rw-r--r--",
}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_files_modes_and_owners(deb):
    found = {}
    for line in output("dpkg-deb", "--contents", deb).splitlines():
        mode, owner, _, _, _, name = line.split(maxsplit=5)
        assert owner == "root/root", line
        found[name] = mode
    # Folders of the system are in the package too; of those only its own one has a mode of its own.
    plain = {name for name, mode in found.items() if mode == "drwxr-xr-x"}
    assert {name: mode for name, mode in found.items() if name not in plain} == FILES


def test_files_are_those_of_the_sources(unpacked):
    def same(installed, source):
        assert (unpacked / installed).read_bytes() == (ROOT / source).read_bytes()

    same("etc/fairstalk/fairstalk.toml", "etc/fairstalk.toml")
    same("lib/systemd/system/fairstalk.service", "systemd/fairstalk.service")
    same("lib/systemd/system/fairstalk@.service", "systemd/fairstalk@.service")
    licence = (unpacked / "usr/share/doc/fairstalk/copyright").read_text()
    assert "THE SOFTWARE IS PROVIDED" in licence and "common-licenses/Apache-2.0" in licence
    assert output(unpacked / "usr/bin/fairstalk", "--version").startswith("fairstalk ")


def test_the_configuration_is_the_only_conffile(unpacked):
    assert (unpacked / "DEBIAN/conffiles").read_text().split() == ["/etc/fairstalk/fairstalk.toml"]


def test_it_depends_on_little(deb):
    depends = output("dpkg-deb", "--field", deb, "Depends")
    names = {alternatives.split()[0] for alternatives in depends.split(", ")}
    assert names <= {"libc6", "libgcc-s1", "systemd"} and re.search(r"libc6 \(>= 2\.\d+\)", depends), depends
    assert output("dpkg-deb", "--field", deb, "Recommends").strip() == "redis-server"


def test_an_upgrade_restarts_and_does_not_stop(unpacked):
    scripts = {path.name: path.read_text() for path in (unpacked / "DEBIAN").glob("p*")}
    # The one place where a package could stop the service before its new files are there.
    assert set(scripts) == {"postinst", "prerm", "postrm"}
    assert "deb-systemd-invoke stop" not in re.sub(r'\[ "\$1" = remove \].*?\nfi', "", scripts["prerm"], flags=re.S)
    assert re.findall(r"deb-systemd-invoke (\S+ \S+)", scripts["postinst"]) == [
        "try-restart 'fairstalk.service'", "try-restart 'fairstalk@*.service'"]


def test_the_same_input_makes_the_same_bytes(deb, build):
    """Whatever the folder, the time, the time zone and the language are."""
    again = build(TZ="Asia/Tokyo", LC_ALL="C", USER="somebody", HOME="/nonexistent")
    assert again.parent != deb.parent and again.read_bytes() == deb.read_bytes()


def test_another_version(build):
    deb = build(DEB_VERSION="99.1~test1")
    assert re.fullmatch(r"fairstalk_99\.1~test1_[a-z0-9]+\.deb", deb.name)
    assert output("dpkg-deb", "--field", deb, "Version").strip() == "99.1~test1"


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is not installed")
def test_lintian(deb):
    checked = subprocess.run(["lintian", "--fail-on", "error,warning", "--info", deb], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
