"""Training: the one loop, the batches, the stages, and the command line."""
