"""A seeded campaign of kills against real processes, and the checker that says what it did to the tasks.

    python -m chaos --rounds 100 --seed 7      (from the folder `tests`; `make chaos ROUNDS=100 SEED=7`)

`application` is what runs, `load` sends it, `stage` owns servers and daemons, `blows` strikes them, `verdict` reads
the ledger, `campaign` puts them together.
"""
