"""Fitted classifiers as folders: write, read, describe.

In: what has been learnt. Out: a bundle of JSON, arrays and a model card; nothing that
can run. To keep something more, open ``fitted.py``.
"""
