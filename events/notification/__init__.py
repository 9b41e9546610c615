"""Telling others what happens: the log and its assignment changes as events, for whoever follows them and for webhooks."""
