"""Offline entry points: training, collection, pretraining, evaluation, reports. They own files, processes and logs."""
