"""Files of word vectors, indexed and not parsed: GloVe, word2vec, fastText.

In: the path of a file, plain or packed. Out: the vectors of the words that are asked
for, read from their place in the file. To add a format, teach ``vector_layout.py`` to
recognise it and read a row of it, and ``vector_scan.py`` to find its rows.
"""
