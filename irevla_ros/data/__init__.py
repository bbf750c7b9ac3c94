"""Episodes on disk: the crash-safe spool, its reader, labels and latents. docs/episode-format.md is the format."""
