"""A pickle that does more than hold values."""

import os


class Runs:
    """Runs a program when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)
