"""twinfold's workers: RQ jobs that apply the log into projections, and the processes that run them."""
