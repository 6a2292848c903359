"""The commands of `python3 -m labs`, one module each."""
