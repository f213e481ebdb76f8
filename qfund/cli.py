"""The command line: ``qfund COMMAND …``; ``qfund --help`` and ``docs/commands.md`` list the commands.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from qfund.commandline.parser import parse
from qfund.core.errors import QfundError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        # Before torch is imported: threads that wait must not spin, or a shared machine is several times slower.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from qfund.precisions import backends

        backends.quiet()
        options.run(options)
        sys.stdout.flush()
    except QfundError as error:
        print(f"qfund: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("qfund: stopped.", file=sys.stderr, flush=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (head, less) is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)
