"""Advances a partition: the one loop behind workers, replay, time travel, previews and backtests."""
