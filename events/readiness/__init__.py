"""Readiness: whether what is written in manifests, and what devices say of their hosts, is fit for production."""
