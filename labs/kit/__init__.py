"""What every lab uses: process fleet, traffic, recorder, traces, charts, panel, verdicts.

The kit knows no incident.
"""
