"""The fleet as set algebra: who is there, what each deployment targets, and what every device runs in consequence."""
