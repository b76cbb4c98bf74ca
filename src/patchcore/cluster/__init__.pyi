from .fitting import fit as fit
from .many import (
    Made as Made,
    benchmark as benchmark,
    fit_each as fit_each,
)
from .predicting import (
    Looked as Looked,
    predict as predict,
    stream as stream,
)
