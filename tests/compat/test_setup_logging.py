"""`setup_logging`: an application that listens to it has logging to itself."""
import compat_tasks as t
from stage import PATIENCE

PLUGIN = "logging_alone"
SLOTS = 1
ENVIRONMENT = {"COMPAT_DATA": ""}


def test_the_application_has_it(worker):
    """What tasks log is written as the application wants, once; `print` stays output and becomes no log line."""
    assert t.log.delay("of the task").get(timeout=PATIENCE) is None
    lines = (worker.directory / "application.log").read_text().splitlines()
    assert [line for line in lines if "of the task" in line] == ["WARNING compat_tasks logged of the task"]
