"""A backbone without a network: which colour is where in the image."""

import numpy as np


class MeanColor:
    """The mean colour of each cell of a 4 x 4 grid."""

    name, dim, input_size, fingerprint = "mean-color", 48, (32, 32), "mean-color-1"

    def embed(self, images):
        """Return features of shape (n, 48), float32, in [0, 1]."""
        cells = images.reshape(len(images), 4, 8, 4, 8, 3).mean(axis=(2, 4)) / 255
        return cells.reshape(len(images), self.dim).astype(np.float32)

    def __sklearn_clone__(self):
        """Return itself: it never changes, so nobody needs a copy."""
        return self
