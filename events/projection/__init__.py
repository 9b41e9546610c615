"""Takes a partition forward: the one loop behind workers, replay, time travel, previews and backtests."""
