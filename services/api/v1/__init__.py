"""Devices, deployments, rollouts and their history under `/v1`: one file of routes for each resource."""
