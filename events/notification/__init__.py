"""Telling others what happens: the log and its outcomes as events, for whoever follows them and for webhooks."""
