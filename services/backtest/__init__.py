"""`twinfold backtest`: recorded devices in virtual time, under other deployments, plans or rollback policies."""
