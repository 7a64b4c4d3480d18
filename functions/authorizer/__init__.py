"""Who may come in: a bearer token to the tenant that it belongs to."""
