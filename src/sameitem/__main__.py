"""`python -m sameitem` is the command line."""

from sameitem.apps.cli import main

main()
