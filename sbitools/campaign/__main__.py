"""Runs a worker process; `runner` starts it."""

import sys

from .worker import main

main(int(sys.argv[1]), int(sys.argv[2]))
