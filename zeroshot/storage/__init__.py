"""Files on disk: where they lie, how they are written, downloaded and unpacked.

In: a place and what should be there. Out: the whole file or the old one, never a part.
To keep a new kind of file in the cache, give it a folder in ``contents.py``.
"""
