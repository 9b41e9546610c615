"""Who may come in: shared access policies and tokens, as facts. Their keys lie sealed beside the log, never in it."""
