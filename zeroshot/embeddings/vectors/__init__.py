"""Files of word vectors, indexed and not parsed: GloVe, word2vec, fastText.

In: the path of a file, plain or packed. Out: the vectors of the words that are asked
for, read from their place in the file. To add a format, teach ``vector_layout.py`` to
recognise it and ``token_index.py`` where its words lie.
"""
