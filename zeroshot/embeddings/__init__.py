"""Providers of word vectors."""
