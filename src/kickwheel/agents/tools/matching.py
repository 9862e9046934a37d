"""A program that finds a regular expression in texts; stands alone and imports nothing of ours.

Python's expressions can take for ever on a few characters, and nothing can stop one inside its own
process. So it runs here, and is killed.

    arguments   the expression
    in          texts as UTF-8, each after its length in 4 bytes
    out         «ok» or what is wrong with the expression; then for each text the numbers of the
                lines that match, from 1; each answer is a line
"""

import re
import sys


def main() -> None:
    """Answers until the texts end."""
    given, told = sys.stdin.buffer, sys.stdout
    try:
        finds = re.compile(sys.argv[1], re.IGNORECASE).search
    except (re.error, RecursionError, OverflowError) as error:
        print(str(error) or type(error).__name__, file=told, flush=True)
        return
    print("ok", file=told, flush=True)
    while length := given.read(4):
        lines = given.read(int.from_bytes(length, "big")).decode().splitlines()
        numbers = (str(number) for number, line in enumerate(lines, 1) if finds(line))
        print(*numbers, file=told, flush=True)


if __name__ == "__main__":
    main()
