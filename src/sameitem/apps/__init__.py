"""Thin doors: command line, REST and the search page. Parse, call, format the answer."""
