"""Deployments: what a group of devices should run, as operators create, change and delete it."""
