"""Makes the scripts that build the documentation importable."""

import sys

from tests.conftest import PROJECT

sys.path.insert(0, str(PROJECT / "scripts"))
