"""Statistics: agreement, bootstrap intervals, paired tests, prediction-powered estimates; and array types."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]
Singles = npt.NDArray[np.float32]
