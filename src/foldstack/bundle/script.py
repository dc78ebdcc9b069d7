"""Predict the test file of a competition by the models of this folder: python infer.py --help"""

import os
import sys
import sysconfig
import time

STARTED = time.monotonic()
ROOT = os.path.dirname(os.path.abspath(__file__))
COMPILED = f"cp{sys.version_info.major}{sys.version_info.minor}-{sysconfig.get_platform()}"
sys.dont_write_bytecode = True  # the folder may be read-only
sys.path.insert(0, os.path.join(ROOT, "source"))
# After the installed packages, so that those of the image are taken where it has them.
sys.path += [os.path.join(ROOT, "vendor", name) for name in ("any", COMPILED)]

try:
    import pydantic  # noqa: F401
except ImportError:
    sys.exit(
        f"infer: this Python has no pydantic, and the bundle has it compiled for "
        f"{', '.join(sorted(os.listdir(os.path.join(ROOT, 'vendor'))))} only: install pydantic, or "
        "make the bundle with a Python of this version"
    )

if __name__ == "__main__":
    from pathlib import Path

    from foldstack.bundle.infer import main

    sys.exit(main(Path(ROOT), sys.argv[1:], STARTED))
