"""`python -m irevla_ros` is `irevla`."""

import sys

from irevla_ros.cli.main import main

sys.exit(main())
