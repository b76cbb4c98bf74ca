"""Pure functions of tensors: no files, no state, no device chosen."""
