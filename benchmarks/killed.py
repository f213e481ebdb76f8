"""Servers killed at random moments: results lost, jobs lost in silence, jobs done again although there was a result.

A server with a database has a queue of short jobs. It is killed (SIGKILL), at once another one takes over, and so on;
what says of itself that it was killed three times in the middle is counted apart.
"""

import argparse
import random
import tempfile
from pathlib import Path

from qfund.engine.kinds import KINDS
from tests.engine import killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.2, help="that a job takes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    KINDS[killed.KIND.name] = killed.KIND
    with tempfile.TemporaryDirectory() as folder:
        found = killed.ordeal(Path(folder), options.jobs, options.seconds, options.kills, random.Random(options.seed))
    print(f"{options.kills} kills, {options.jobs} jobs of {options.seconds:g} s")
    print(f"results there: {found.results}; said to be lost (killed three times in the middle): {found.lost}")
    print(f"lost in silence: {found.silent}; done again although the result was there: {found.twice}")


if __name__ == "__main__":
    main()
