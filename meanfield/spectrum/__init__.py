"""Matrix-free spectra of linear maps between measures' tangent spaces."""

from .lanczos import SingularTriplet as SingularTriplet, top_singular as top_singular
from .sharpness import Sharpness as Sharpness, sharpness as sharpness
