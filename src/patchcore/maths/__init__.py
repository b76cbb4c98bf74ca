"""Maths: pure functions of tensors. No files, no state, no device chosen."""
