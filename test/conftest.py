from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is not a failure; in CI the examples are the same on every run.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
