"""Classifiers in the systems of others, one thin file for each.

In: a fitted classifier. Out: what the other system keeps, finds and serves. To add a
system, write a module beside ``mlflow.py``; it imports the system's package within its
functions, and is an extra.
"""
