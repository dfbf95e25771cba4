"""`python -m tf_serving`: the server of server.py as the first process of a container."""

import signal
import sys

if __name__ == "__main__":
    # which is not ended by a signal that it has no handler for, and the imports take seconds
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    from tf_serving.server import main

    main()
