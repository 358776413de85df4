"""Runs downloads in children of a warm process, so that many can be started and killed at little cost.

Reads one JSON list of arguments of `hcc-tace` a line, forks a child that runs it, and writes its process id; then,
when it has ended, its exit status.
"""

import json
import os
import sys

import pandas  # noqa: F401 - warm

from hcc_tace_data.cli.main import main
from hcc_tace_data.facts.series_table import load_series_table

load_series_table()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os._exit(main(json.loads(line)))
    sys.stdout.write(f"{child}\n")
    sys.stdout.flush()
    sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
    sys.stdout.flush()
