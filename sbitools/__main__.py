"""``python -m sbitools`` is the command ``sbitools``."""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
