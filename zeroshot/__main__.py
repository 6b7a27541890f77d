"""``python -m zeroshot`` is the command ``zeroshot``."""

from zeroshot.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
