"""An application that sets its logging up itself: into a file, and bare to standard error."""
import logging
import os

from celery import signals


def install(app):
    signals.setup_logging.connect(to_file, weak=False)


def to_file(**kwargs):
    handler = logging.FileHandler(os.path.join(os.environ["COMPAT_DATA"], "application.log"))
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().addHandler(logging.StreamHandler())
    logging.getLogger().setLevel(logging.INFO)
