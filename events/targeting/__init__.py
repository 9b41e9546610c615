"""The condition language: which devices a deployment targets (DESIGN §3, contract/hub.md §2.2)."""
