"""Entry point for a WSGI server, such as `gunicorn imgbackend.wsgi`."""
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imgbackend.settings")

application = get_wsgi_application()
