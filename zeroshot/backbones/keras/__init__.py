"""Networks that Keras runs: its applications, model files, heads, fine-tuning.

In: a name of `keras.applications` or a model file. Out: a backbone, run by the fastest
exact route that this machine has. To add a network, add a row to
``applications.toml``; to add a route, open ``routes.py``.
"""
