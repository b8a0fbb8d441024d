"""The man pages and completions: rendered without a warning, and complete."""
import os
import re
import subprocess

import pytest
from harness import ROOT
from harness.daemon import binary

PAGES = ["fairstalk.1", "fairstalk.toml.5", "fairstalk.8"]


def render(page):
    """The text a reader sees, in one line, without the line breaks of the terminal."""
    # Wide, so that no word is broken; a narrow terminal only breaks lines elsewhere.
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "400"}
    shown = subprocess.run(["man", "--warnings", "--no-hyphenation", "--local-file", page], env=environment,
                           capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, ""), page
    # Bold is overstruck where the pages of others are, too: N^HN.
    return re.sub(r"\s+", " ", re.sub(r".\x08", "", shown.stdout))


@pytest.fixture(scope="module")
def text(pages):
    return {name: render(pages / name) for name in PAGES}


def helps(*command):
    """The words of each command, with its help: `("dead", "list"), "…"`."""
    shown = subprocess.run([binary(), *command, "--help"], check=True, capture_output=True, text=True).stdout
    yield command, shown
    listed = re.search(r"^Commands:\n((?: .*\n|\n(?= ))+)", shown, re.M)
    for name in re.findall(r"^  ([\w-]+)", listed[1], re.M) if listed else []:
        if name != "help":
            yield from helps(*command, name)


def test_every_command_and_option_is_described(text):
    commands = dict(helps())
    assert len(commands) > 7
    for command, shown in commands.items():
        assert " ".join(["fairstalk", *command]) in text["fairstalk.1"]
        for option in re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", shown, re.M):
            assert option in text["fairstalk.1"], command


def test_every_key_is_described(pages, text):
    """Each key of `config::SECTIONS`, and its variable, has its entry."""
    listed = (ROOT / "src" / "config" / "keys.rs").read_text()
    sections = re.findall(r'\(\s*("\w+"|TASKS),\s*(?:&\[([^\]]*)\]|TASK)', listed)
    tasks = re.search(r"const TASK: &\[&str\] =\s*&\[([^\]]*)\]", listed)[1]
    keys = [(name, key) for name, words in sections for key in re.findall(r'"(\w+)"', words or tasks)]
    assert len(sections) > 8 and len(keys) > 30
    entries = re.findall(r"^\.TP\n\\fB(\w+)\\fR$", (pages / "fairstalk.toml.5").read_text(), re.M)
    assert sorted(entries) == sorted(key for _, key in keys)
    for section, key in keys:
        if section != "TASKS":
            assert f"FAIRSTALK_{section[1:-1]}__{key}".upper() in text["fairstalk.toml.5"]


def test_signals_exit_codes_fields_and_files_are_described(text):
    page = text["fairstalk.8"]
    fields = re.findall(r'^    [A-Z_]+ = "(\w+)";', (ROOT / "src" / "telemetry" / "fields.rs").read_text(), re.M)
    assert len(fields) > 8
    words = [field.upper() for field in fields]
    words += ["TERM", "HUP", "TSTP", "CONT", "64", "69", "70", "75", "78"]
    words += ["/etc/fairstalk/fairstalk.toml", "/run/fairstalk", "fairstalk@NAME", "drain_timeout", "ReadWritePaths="]
    for word in words:
        assert word in page, word


def test_no_markup_is_left(text):
    for name, page in text.items():
        # clap's help is shown as it is, with the quotes of code.
        marks = r"\*\*|\]\(|\|---" if name == "fairstalk.1" else r"`|\*\*|\]\(|\|---"
        assert not re.search(marks, page), name


def complete(folder, *words):
    """What bash offers for the last of the words."""
    script = f'source {folder}/fairstalk.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); ' \
             '_fairstalk fairstalk "${!#}" "${COMP_WORDS[COMP_CWORD-1]}"; printf "%s\\n" "${COMPREPLY[@]}"'
    shown = subprocess.run(["bash", "-c", script, "bash", *words], check=True, capture_output=True, text=True)
    return shown.stdout.split()


def test_completions(pages):
    assert complete(pages, "fairstalk", "dea") == ["dead"]
    assert "--wait" in complete(pages, "fairstalk", "enqueue", "--")
    # Only the daemon calls this one.
    assert complete(pages, "fairstalk", "work") == []
    for shell in ["_fairstalk", "fairstalk.fish"]:
        assert "enqueue" in (pages / shell).read_text()
