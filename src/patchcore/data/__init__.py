"""Pictures in: reading and converting them, and finding them in folders, layouts and tables."""
