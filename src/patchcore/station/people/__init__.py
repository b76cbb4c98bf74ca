"""People: accounts, roles, sessions, keys of machines, and the audit trail."""
