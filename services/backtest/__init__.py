"""The recorded devices once more, in virtual time, under other deployments, plans or rollback policies."""
