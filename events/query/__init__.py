"""The hub query language: which twins a query is about and what it shows of them (contract/hub.md §2.1)."""
