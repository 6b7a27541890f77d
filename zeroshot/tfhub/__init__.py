"""TF-Hub modules: a handle in, a loaded module and its functions out.

What is the same for images (`zeroshot.backbones.exported.tfhub`) and texts
(`zeroshot.embeddings.tfhub`): where a module lies, fetched by its handle, what its
content is, and which function of it is called. To accept another form of handle, see
``handles.py``.
"""
