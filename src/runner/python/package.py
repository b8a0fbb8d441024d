"""The Python side of fairstalk: the zygote, which imports the application once, and the runners it forks.

Only the standard library and the application's own Celery are used.
"""
