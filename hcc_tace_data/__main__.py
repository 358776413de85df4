"""`python -m hcc_tace_data` is `hcc-tace`."""

import sys

from hcc_tace_data.cli.main import main

sys.exit(main())
