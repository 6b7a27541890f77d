"""Networks that other programs exported: ONNX, LiteRT and TF-Hub files.

In: the path of a file or folder, with options (``onnx:/model.onnx?output=features``).
Out: a backbone that runs it. To add a format, write a module beside these, derived from
`zeroshot.backbones.model_file.ModelFile`.
"""
