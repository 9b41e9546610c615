"""Deployments: the configuration that operators create, change and delete for a group of devices."""
