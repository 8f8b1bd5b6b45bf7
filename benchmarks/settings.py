"""The application's settings, with a benchmark's transport in the simulator's place."""

from __future__ import annotations

import os

from config.settings import *  # noqa: F403

# Not by EXTRA_TRANSPORTS, which rightly refuses to replace a transport of ours. Under another name
# SIMULATOR_SPEED would not hold for its devices.
TRANSPORTS = {"simulator": os.environ["BENCHMARK_TRANSPORT"]}
