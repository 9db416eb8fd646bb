"""A whole Headrace under random faults, and a checker that asks the log and a receiver. See docs/faults.md."""
