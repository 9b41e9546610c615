"""Who may come in: shared access policies and tokens, as events. Their keys lie sealed beside the log, never in it."""
