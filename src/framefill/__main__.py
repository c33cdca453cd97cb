"""`python -m framefill`."""

from framefill.cli import main

main()
