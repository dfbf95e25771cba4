"""`python -m gateway`: one gateway process."""

import signal
import sys

if __name__ == "__main__":
    # a container's first process is not ended by a signal that it has no handler for, and the imports take seconds
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    from gateway.serve import main

    sys.exit(main())
