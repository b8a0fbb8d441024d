"""A cache for Django that has something to close."""
from django.core.cache.backends.locmem import LocMemCache

from opening import closed


class ClosingCache(LocMemCache):
    """Counts how often it is closed."""

    def close(self, **kwargs):
        closed["cache"] += 1
