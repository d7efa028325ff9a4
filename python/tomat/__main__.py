"""``python -m tomat`` is the command ``tomat``."""

from tomat.cli import main

if __name__ == "__main__":
    main()
