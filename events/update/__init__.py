"""Updates for groups of devices (seed 004): what a group is, what there is to deploy to it, and what was deployed."""
