"""The app that makes product images."""
from django.apps import AppConfig


class ImagesConfig(AppConfig):
    """One click becomes a job, a job becomes many images."""

    name = "images"
