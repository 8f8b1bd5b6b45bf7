"""The application's settings, with a scheduler that only works off what is queued."""

from __future__ import annotations

import json
import os

from config.settings import *  # noqa: F403
from config.settings import Q_CLUSTER

# No schedules: the application's own tasks are not what is measured.
Q_CLUSTER |= {"scheduler": False} | json.loads(os.environ["BENCHMARK_CLUSTER"])
