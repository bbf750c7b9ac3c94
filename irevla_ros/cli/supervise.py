"""Run the supervised job of a manifest: stage 0 or 2 as a process of its own, resumed after any kill.

The learner of the node graph writes such a manifest and starts this; by hand it is for going on with one that was
stopped, or on another machine. Beside the manifest: progress.json while it works, result.json when it is done.

Exit codes: 0 done, now or before; 1 the manifest or an input is at fault; 2 a crash; 130, 143 stopped, resumable.

example:
  irevla supervise runs/arm/jobs/1-press-red-stage2/manifest.json
"""

from __future__ import annotations

from irevla_ros.jobs.supervised_job import add_arguments, run

__all__ = ["add_arguments", "run"]
