"""Manifests: the rules for a deployment's content, and the merge of several contents."""
