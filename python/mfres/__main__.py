# SPDX-License-Identifier: MIT
"""`python -m mfres` and the command `mfres` are the program."""
from __future__ import annotations

import os
import sys

from ._program import program


def main() -> None:
    path = str(program())
    sys.stdout.flush()
    os.execv(path, [path, *sys.argv[1:]])


if __name__ == "__main__":
    main()
