"""Programs that people already have: one thin file for each.

In: their objects. Out: their objects, with our answers. To add one, write a file of
functions that import the program when they are called.
"""
