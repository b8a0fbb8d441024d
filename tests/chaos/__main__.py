"""`python -m chaos`: one campaign; exit code 1 if it found anything."""
import argparse
import random
import sys
import tempfile

from . import campaign

parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
parser.add_argument("--rounds", type=int, default=100, help="blows")
parser.add_argument("--seed", type=int, default=None, help="repeats the choices of an earlier campaign")
parser.add_argument("--daemons", type=int, default=None, help="1 or 2; else the seed decides")
parser.add_argument("--stock", type=int, default=0, help="stock Celery workers beside them")
parser.add_argument("--keep", metavar="FOLDER", help="where ledger and logs are kept")
arguments = parser.parse_args()
seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
print(f"seed {seed}", flush=True)
with tempfile.TemporaryDirectory(prefix="fairstalk-chaos-") as folder:
    report = campaign.run(
        arguments.keep or folder, arguments.rounds, seed, arguments.daemons, lambda text: print(text, flush=True), arguments.stock
    )
print(report)
sys.exit(bool(report.findings))
