"""The policy: a vision-language backbone, heads on its latents, and their checkpoints. torch lives here, files only in
``tensor_file`` and ``checkpoint``."""
