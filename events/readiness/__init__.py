"""Readiness: rules that check manifests and the host facts of devices before production."""
