"""The app with small tasks for tests and benchmarks."""
from django.apps import AppConfig


class BenchConfig(AppConfig):
    """Tasks only: no models, no database."""

    name = "bench"
