"""Unified CRM: everything that knows CRMs, and nothing that knows HTTP events.

The way of a call: `accounts.load` finds the integrated account, `engine.perform` drives the provider's flow over
`transport`, and `mapping` turns the provider's record into the unified one. Importing this package imports no
provider: loading an account imports its own and no other.
"""
