"""`python -m chaos`: one campaign; exit code 1 if it found anything."""
import argparse
import random
import sys
import tempfile

from . import campaign

parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
parser.add_argument("--rounds", type=int, default=None, help="blows at least; 100 if nothing is said of kills")
parser.add_argument("--kills", type=int, default=0, help="kills at least, however many blows that takes")
parser.add_argument("--seed", type=int, default=None, help="repeats the choices of an earlier campaign")
parser.add_argument("--daemons", type=int, default=None, help="1 or 2; else the seed decides")
parser.add_argument("--stock", type=int, default=0, help="stock Celery workers beside them")
parser.add_argument("--keep", metavar="FOLDER", help="where ledger and logs are kept")
arguments = parser.parse_args()
seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
rounds = arguments.rounds if arguments.rounds is not None else 0 if arguments.kills else 100
print(f"seed {seed}", flush=True)
with tempfile.TemporaryDirectory(prefix="fairstalk-chaos-") as folder:
    report = campaign.run(
        arguments.keep or folder, rounds, seed, arguments.daemons, lambda text: print(text, flush=True), arguments.stock,
        arguments.kills,
    )
print(report)
sys.exit(bool(report.findings))
