"""What the toy learns: the tasks, the stages, and the command line."""
