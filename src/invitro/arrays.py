"""Types of arrays, for annotations; shapes and units are in docstrings."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]
Singles = npt.NDArray[np.float32]
