"""Encoders of whole phrases: texts in, vectors out.

In: texts. Out: vectors, (n, dim) float32, of texts that nobody listed before. Each is a
folder of numbers and words, here or on the Hugging Face Hub; what would run code is
refused. To add one, derive from ``model_folder.FolderEncoder``, or from
`zeroshot.embeddings.base.PhraseEncoder` where it is no folder.
"""
