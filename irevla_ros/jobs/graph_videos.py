"""Videos of a run in the graph: evaluation episodes of the spool, before and after side by side."""

from __future__ import annotations

from irevla_ros.jobs.announcements import Announcements
from irevla_ros.jobs.episode_plan import EpisodePlan
from irevla_ros.jobs.evaluate import EVALUATION_SEED
from irevla_ros.jobs.practice import Practice
from irevla_ros.jobs.run_record import RunRecord
from irevla_ros.jobs.video import Clip, write_video


def write_videos(record: RunRecord, practice: Practice, episodes: EpisodePlan, announcements: Announcements,
                 final: str) -> None:  # fmt: skip
    """The first ``videos`` start states of each RL task, as stage 0 and as ``final`` met them; none where either has not."""
    config = record.config
    first = record.machine.state.plan.sft_checkpoint or "sft"
    labels = {first: "sft", final: config.method} if final != first else {first: "sft"}
    for start in episodes.starts(EVALUATION_SEED, {"rl": config.videos * len(record.machine.state.plan.tasks)}):
        clips, (task, seed) = [], start
        for checkpoint, label in labels.items():
            (wanted,) = episodes.evaluation([start], announcements.versions_of(f"checkpoints/{checkpoint}"))
            for name in practice.find([wanted]).values():
                episode = practice.frames(name, config.scene.cameras[0])
                clips.append(Clip(episode.images[config.scene.cameras[0]], episode.meta.instruction, label, episode.success))
        if len(clips) == len(labels):
            path = record.folder / "videos" / f"{task.replace('@', '-at-')}-{seed}.webp"
            write_video(path, clips, task, record.suite.category(task), seed)
