"""``python -m nora``."""

from nora.cli.main import main

main()
