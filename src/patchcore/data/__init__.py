"""Data: what a caller gives, as samples."""
