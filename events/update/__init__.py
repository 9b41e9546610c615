"""Updates for groups of devices (seed 004): the groups, the imported updates, and the deployments of updates to groups."""
