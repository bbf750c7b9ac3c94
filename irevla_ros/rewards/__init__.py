"""Success and progress: who decides whether an episode reached its goal."""
