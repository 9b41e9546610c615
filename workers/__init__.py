"""twinfold's workers: RQ jobs that project the log, and the processes that run them."""
