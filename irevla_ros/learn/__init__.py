"""The algorithms. They consume tensors and iterators and return metrics: no files, no logging, no processes."""
