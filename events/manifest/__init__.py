"""Manifests: what a deployment's content may say, and what a stack of them comes to."""
