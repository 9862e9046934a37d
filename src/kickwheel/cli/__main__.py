"""`python -m kickwheel.cli`: the program where no script is installed."""

from kickwheel.cli import main

main()
