"""`python -m kickwheel`"""

from kickwheel.cli import main

if __name__ == "__main__":
    main()
