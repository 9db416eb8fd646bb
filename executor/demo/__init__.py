"""Payloads of our own making, in providers' forms, for `headrace demo`, `headrace send` and tests."""
