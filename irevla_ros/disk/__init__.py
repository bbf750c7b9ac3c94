"""What every part that keeps files shares: whole writes, synced names, locks that die with their process."""
