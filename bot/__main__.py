"""``python -m bot`` and the ``bot`` script."""

from bot.cli import main

if __name__ == "__main__":
    main()
