"""Devices: their identities, their twins and those of their modules (contract/hub.md §1.5, §1.6)."""
