"""Images in: reading and converting them, and finding them in folders, layouts and tables."""

MAX_PIXELS = 100_000_000  # the largest image that is decoded, unless a caller says otherwise
