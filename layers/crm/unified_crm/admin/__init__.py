"""The operator's command line: integrated accounts and tokens, in AWS or in the local world.

    python -m unified_crm.admin accounts add | list | check | remove
    python -m unified_crm.admin tokens create | list | revoke

A secret is asked for, or read from standard input where that is no terminal. It is never an argument, and never shown;
a new token is, once. What was asked for goes to standard output, everything else to standard error. Exit codes: 0 done,
or fine; 1 wrong; 2 usage. Nothing outside this folder imports it.
"""
