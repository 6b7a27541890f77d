"""The command line. Every command is a few lines around one public function.

Results go to stdout; progress, warnings and errors to stderr. Exit codes: 0, 1 for an
error in what was given (one line, no traceback), 2 for wrong usage, 3 where that was
asked for and some images cannot be read, 130 for Ctrl-C, 141 where whoever reads the
output has left.
Importing this package imports neither NumPy nor scikit-learn nor TensorFlow.
"""

from zeroshot.cli.app import app, main

__all__ = ["app", "main"]
