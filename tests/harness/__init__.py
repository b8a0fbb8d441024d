"""Private servers and processes for tests, benchmarks and the demo.

Each of them has its own directory, its own Redis and its own notify socket, waits on conditions instead of
sleeping, and leaves no process behind.
"""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "examples" / "imgbackend"
