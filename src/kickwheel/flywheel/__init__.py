"""Traffic to a better model, and the proof that it is better.

curate    Traces → Dataset
tune      Dataset → Adapter
evaluate  Adapter → Report
snapshot  Report → Snapshot
gate      whether a Report is good enough for a promotion
turn      all of it once, resumable at each step
start     a project to begin with

The steps know only records, never each other.
"""
