"""Watch: whether the images of a line are still like those that a detector was calibrated with."""
