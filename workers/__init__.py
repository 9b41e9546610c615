"""twinfold's workers: RQ jobs that fold the log into views, and the processes that run them."""
